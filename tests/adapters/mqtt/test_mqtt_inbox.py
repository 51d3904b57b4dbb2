"""The bounded queue: what gives way when nobody reads, and that it is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from adapters.mqtt.inbox import Dropped, Inbox
from adapters.mqtt.message import Block, Message


def _message(number: int, qos: int, size: int = 1) -> Block:
    return Block.of(Message(b"t", bytes(size), size, qos, False, False, number, 1000 + number))


def _mids(block: Block) -> list[int]:
    """The id of each message; one of QoS 0 has none, so its time tells which it is."""
    return [at_ns - 1000 for at_ns in block.arrivals]


def test_qos_0_without_room_is_dropped_counted_and_dated() -> None:
    """Best-effort messages give way after the patience, once per congestion, with their times."""
    counters: Counter[str] = Counter()
    inbox = Inbox(2, 0.05, counters)
    woken = [inbox.put(_message(n, 0)) for n in range(5)]

    assert woken == [True, False, False, False, False]
    assert counters["dropped"] == 3
    assert inbox.take_dropped() == Dropped(3, 1002, 1004)
    assert inbox.take_dropped() is None
    assert _mids(inbox.take(10)) == [0, 1]
    assert inbox.put(_message(5, 0))


def test_qos_1_without_room_stays_at_the_broker_with_all_behind_it() -> None:
    """An acknowledged-only-later message is never dropped: it and all that follow are left for redelivery, in order."""
    counters: Counter[str] = Counter()
    inbox = Inbox(2, 0.01, counters)
    for number in range(4):
        inbox.put(_message(number, 1))
    taken = inbox.take(10)
    inbox.put(_message(4, 1))

    assert _mids(taken) == [0, 1]
    assert len(inbox) == 0
    assert inbox.overrun
    assert counters == {"overrun": 1}


def test_bytes_are_bounded_too() -> None:
    """A few large messages fill the queue as many small ones do."""
    inbox = Inbox(10**6, 0.01, Counter())
    accepted = 0
    while not inbox.overrun:
        inbox.put(_message(accepted, 1, 1 << 20))
        accepted += 1
    assert accepted == 65


def test_long_topics_fill_the_queue_as_long_payloads_do() -> None:
    """Messages without a payload are not free, alone or in a block."""
    inbox = Inbox(10**6, 0.01, Counter())
    one = Message(b"t" * 65535, b"", 0, 1, False, False, 1, 1000)
    accepted = 0
    while not inbox.overrun:
        inbox.put(Block.of(one))
        accepted += 1
    together = Inbox(10**6, 0.01, Counter())
    together.put(Block.of(*[one] * 2000))

    assert accepted == len(inbox) + 1
    assert len(inbox) == len(together) == 1025


def test_a_waiting_message_gets_in_when_the_reader_makes_room(eventually_sync: Callable[..., None]) -> None:
    """The network thread waits for room instead of dropping."""
    counters: Counter[str] = Counter()
    inbox = Inbox(1, 30.0, counters)
    inbox.put(_message(0, 0))
    writer = threading.Thread(target=inbox.put, args=(_message(1, 0),))
    writer.start()
    got: list[int] = []

    def both() -> bool:
        got.extend(_mids(inbox.take(1)))
        return len(got) == 2

    eventually_sync(both)
    writer.join()
    assert got == [0, 1]
    assert not counters


def test_closing_frees_a_waiting_thread() -> None:
    """A network thread that waits for room ends when the connection is closed."""
    inbox = Inbox(1, 60.0, Counter())
    inbox.put(_message(0, 1))
    writer = threading.Thread(target=inbox.put, args=(_message(1, 1),))
    writer.start()
    inbox.close()
    writer.join(120)
    assert not writer.is_alive()


def test_a_block_is_taken_as_far_as_there_is_room() -> None:
    """What fits is queued, what does not gives way message by message, and a take may end within a block."""
    counters: Counter[str] = Counter()
    inbox = Inbox(5, 0.01, counters)
    block = Block.of(*(_message(n, 0).message(0) for n in range(8)))

    assert inbox.put(block)
    assert counters["dropped"] == 3
    assert inbox.take_dropped() == Dropped(3, 1005, 1007)
    assert _mids(inbox.take(2)) == [0, 1]
    assert len(inbox) == 3
    assert _mids(inbox.take(10)) == [2, 3, 4]


def test_the_reader_is_woken_before_its_room_is_waited_for() -> None:
    """A block longer than the queue would else wait for a reader that sleeps."""
    inbox = Inbox(2, 60.0, Counter(), wake=lambda: taken.extend(_mids(inbox.take(2))))
    taken: list[int] = []
    inbox.put(Block.of(*(_message(n, 1).message(0) for n in range(5))))
    assert taken + _mids(inbox.take(9)) == [0, 1, 2, 3, 4]
