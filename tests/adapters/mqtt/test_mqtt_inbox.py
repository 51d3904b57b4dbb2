"""The bounded queue: what gives way when nobody reads, and that it is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from adapters.mqtt.inbox import Dropped, Inbox
from adapters.mqtt.message import Message


def _message(number: int, qos: int, size: int = 1) -> Message:
    return Message(b"t", bytes(size), size, qos, False, False, number, 1000 + number)


def test_qos_0_without_room_is_dropped_counted_and_dated() -> None:
    """Best-effort messages give way after the patience, once per congestion, with their times."""
    counters: Counter[str] = Counter()
    inbox = Inbox(2, 0.05, counters)
    woken = [inbox.put(_message(n, 0)) for n in range(5)]

    assert woken == [True, False, False, False, False]
    assert counters["dropped"] == 3
    assert inbox.take_dropped() == Dropped(3, 1002, 1004)
    assert inbox.take_dropped() is None
    assert [m.mid for m in inbox.take(10)] == [0, 1]
    assert inbox.put(_message(5, 0))


def test_qos_1_without_room_stays_at_the_broker_with_all_behind_it() -> None:
    """An acknowledged-only-later message is never dropped: it and all that follow are left for redelivery, in order."""
    counters: Counter[str] = Counter()
    inbox = Inbox(2, 0.01, counters)
    for number in range(4):
        inbox.put(_message(number, 1))
    taken = inbox.take(10)
    inbox.put(_message(4, 1))

    assert [m.mid for m in taken] == [0, 1]
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


def test_a_waiting_message_gets_in_when_the_reader_makes_room(eventually_sync: Callable[..., None]) -> None:
    """The network thread waits for room instead of dropping."""
    counters: Counter[str] = Counter()
    inbox = Inbox(1, 30.0, counters)
    inbox.put(_message(0, 0))
    writer = threading.Thread(target=inbox.put, args=(_message(1, 0),))
    writer.start()
    got = []

    def both() -> bool:
        got.extend(inbox.take(1))
        return len(got) == 2

    eventually_sync(both)
    writer.join()
    assert [m.mid for m in got] == [0, 1]
    assert not counters


def test_closing_frees_a_waiting_thread() -> None:
    """A network thread that waits for room ends when the connection is closed."""
    inbox = Inbox(1, 60.0, Counter())
    inbox.put(_message(0, 1))
    writer = threading.Thread(target=inbox.put, args=(_message(1, 1),))
    writer.start()
    inbox.close()
    writer.join(5)
    assert not writer.is_alive()
