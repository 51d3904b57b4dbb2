"""The order of one edge node's messages: shuffled within the wait it is restored, and what is missing is counted."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from adapters.mqtt.message import Message
from adapters.mqtt.sparkplug.order import Item, Order
from adapters.mqtt.sparkplug.payload import Payload
from adapters.mqtt.sparkplug.topics import Edge, Topic

_MESSAGE = Message(b"", b"", 0, 0, False, False, 0, 0)


def _item(number: int) -> Item:
    payload = Payload()
    payload.seq, payload.timestamp = number % 256, number
    return Item(Topic("NDATA", Edge("g", "n"), ""), _MESSAGE, payload)


def _run(numbers: list[int], wait: int) -> tuple[list[int], int, int]:
    """Offer one message a tick; return the order in which they are processed, how many were missing, how many late."""
    order, done, missing, late = Order(), [], 0, 0
    order.expected = 0
    for now, number in enumerate([*numbers, *[None] * (wait + 1)]):
        if number is not None:
            item = _item(number)
            if order.offer(item):
                done.append(number)
            else:
                order.wait(item, now + wait)
        while (step := order.next(now)) is not None:
            done.append(step.item.payload.timestamp or 0)
            missing += max(step.missing, 0)
            late += step.missing < 0
    assert not order.waiting
    return done, missing, late


@given(st.integers(1, 700), st.integers(0, 20), st.randoms(use_true_random=False))
def test_a_shuffle_within_the_wait_is_undone(count: int, reach: int, chance: random.Random) -> None:
    """Displaced by less than half the wait, messages come out in order, over the wrap of the numbers, none missing."""
    numbers = sorted(range(count), key=lambda n: n + chance.uniform(0, reach))

    assert _run(numbers, wait=2 * reach + 2) == (list(range(count)), 0, 0)


@given(st.sets(st.integers(0, 299), max_size=6))
def test_each_missing_message_is_counted_once(lost: set[int]) -> None:
    """What was lost in between is counted exactly, and nothing else is held back or reordered."""
    numbers = [n for n in range(301) if n not in lost]
    done, missing, late = _run(numbers, wait=3)

    assert (done, missing, late) == (numbers, len(lost), 0)


def test_a_message_after_its_time_is_late_and_moves_nothing() -> None:
    """It is processed, and the next one is still the expected one."""
    done, missing, late = _run([0, 2, 3, 4, 5, 6, 1, 7, 8], wait=2)

    assert done == [0, 2, 3, 4, 5, 6, 7, 8, 1]
    assert (missing, late) == (1, 1)


def test_a_node_that_does_not_number_is_not_waited_for_for_ever() -> None:
    """After a few messages whose number never fits, order is given up until the next birth."""
    order = Order()
    waited = 0
    for now in range(100):
        item = _item(7)
        if not order.offer(item):
            order.wait(item, now)
            waited += 1
        while order.next(now) is not None:
            continue
    assert order.unchecked
    assert waited < 20

    order.restart(7)
    assert not order.unchecked
