"""Blocks: nothing cut, nothing forgotten, no limit broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.planner import Block, Item, Learnt, Limits, plan, split


def holding(tag: int, address: int, width: int = 1) -> Item:
    return Item(1, 3, address, width, tag)


@st.composite
def items_of_a_map(draw: st.DrawFn) -> list[Item]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 7]),
                st.sampled_from([1, 2, 3, 4]),
                st.integers(0, 600),
                st.sampled_from([1, 1, 2, 4, 10]),
            ),
            min_size=1,
            max_size=60,
        )
    )
    return [Item(u, f, a, 1 if f <= 2 else w, tag) for tag, (u, f, a, w) in enumerate(rows)]


LIMITS = st.builds(Limits, registers=st.integers(10, 125), bits=st.integers(1, 2000), max_gap=st.integers(0, 20))


@given(items_of_a_map(), LIMITS)
def test_every_item_lies_whole_in_one_block(items: list[Item], limits: Limits) -> None:
    """Each item is read exactly once, wholly inside its block, so no value is put together from two requests."""
    blocks = plan(items, limits)
    assert sorted(item for block in blocks for item in block.items) == sorted(items)
    for block in blocks:
        assert block.count <= (limits.bits if block.function <= 2 else limits.registers)
        for item in block.items:
            assert item.table == (block.unit, block.function)
            assert block.address <= item.address
            assert item.end <= block.address + block.count


@given(items_of_a_map(), LIMITS)
def test_reads_over_no_gap_wider_than_allowed(items: list[Item], limits: Limits) -> None:
    """Between two items of a block lie at most max_gap unwanted registers."""
    for block in plan(items, limits):
        wanted = {address for item in block.items for address in range(item.address, item.end)}
        gap = longest = 0
        for address in range(block.address, block.address + block.count):
            gap = 0 if address in wanted else gap + 1
            longest = max(longest, gap)
        assert longest <= (16 if block.function <= 2 else 1) * limits.max_gap
        assert {block.address, block.address + block.count - 1} <= wanted


@given(items_of_a_map(), LIMITS, st.data())
def test_refused_registers_are_never_read_over(items: list[Item], limits: Limits, data: st.DataObject) -> None:
    """A plan with refused items reads all others, and does not bridge a gap that holds a refused register."""
    learnt = Learnt()
    for item in data.draw(st.lists(st.sampled_from(items), max_size=5)):
        learnt.refuse(item, 0.0)
    blocks = plan(items, limits, learnt)
    assert sorted(i for block in blocks for i in block.items) == sorted(i for i in items if i not in learnt.refused)
    bad = {(*item.table, address) for item in learnt.refused for address in range(item.address, item.end)}
    for block in blocks:
        wanted = {address for item in block.items for address in range(item.address, item.end)}
        unwanted = set(range(block.address, block.address + block.count)) - wanted
        assert not {(block.unit, block.function, address) for address in unwanted} & bad


@given(items_of_a_map(), LIMITS)
def test_split_keeps_every_item_whole(items: list[Item], limits: Limits) -> None:
    """Dividing a block again and again ends at single items, and cuts none."""
    waiting = plan(items, limits)
    single: list[Item] = []
    while waiting:
        block = waiting.pop()
        assert all(block.address <= i.address and i.end <= block.address + block.count for i in block.items)
        if len(block.items) == 1:
            assert (block.address, block.count) == (block.items[0].address, block.items[0].width)
            single += block.items
        else:
            waiting += split(block)
    assert sorted(single) == sorted(items)


def test_joins_what_touches_overlaps_or_nearly_touches() -> None:
    """Touching, overlapping and near items share a request; a wide gap, another table or a full block begin one."""
    items = [holding(0, 0, 2), holding(1, 1, 4), holding(2, 5), holding(3, 14), holding(4, 24)]
    assert [(b.address, b.count) for b in plan(items, Limits(max_gap=8))] == [(0, 15), (24, 1)]
    assert [(b.address, b.count) for b in plan(items, Limits(max_gap=0))] == [(0, 6), (14, 1), (24, 1)]
    many = [holding(i, 2 * i, 2) for i in range(100)]
    assert [(b.address, b.count) for b in plan(many, Limits())] == [(0, 124), (124, 76)]


def test_a_cut_separates_for_good() -> None:
    """Items that the device refused together and answered apart are planned apart."""
    items = [holding(0, 0), holding(1, 4), holding(2, 5)]
    learnt = Learnt()
    learnt.cut(Block.over((items[1],)))
    assert [(b.address, b.count) for b in plan(items, Limits(), learnt)] == [(0, 1), (4, 2)]


def test_splits_at_the_hole_nearest_the_middle() -> None:
    """A block with unwanted registers is divided there first, because a hole is the likeliest reason."""
    items = tuple(holding(i, address) for i, address in enumerate([0, 1, 2, 3, 6, 7]))
    left, right = split(Block.over(items))
    assert [(b.address, b.count) for b in (left, right)] == [(0, 4), (6, 2)]


def test_a_refused_item_is_probed_when_its_time_has_come() -> None:
    """A refused address is tried again after a while; one success makes the whole table believed again."""
    first, second = holding(0, 60), holding(1, 70)
    learnt = Learnt()
    learnt.refuse(first, 10.0)
    learnt.refuse(second, 20.0)
    assert learnt.probe({first, second}, 19.0, always=False) is None
    assert learnt.probe({first, second}, 19.0, always=True) == first
    assert learnt.probe({second}, 30.0, always=False) == second
    waits = []
    for _ in range(8):
        learnt.refuse(first, 1000.0)
        waits.append(learnt.refused[first] - 1000.0)
    assert waits == [20, 40, 80, 160, 300, 300, 300, 300]
    before = learnt.version
    learnt.accept(first)
    assert not learnt.refused
    assert learnt.version > before


@pytest.mark.parametrize("function", [1, 2])
def test_coils_have_their_own_limits(function: int) -> None:
    """Coils count in bits: the gap is 16 times max_gap, the block up to the limit of bits."""
    items = [Item(1, function, address, 1, address) for address in (0, 129, 1999, 2000)]
    assert [(b.address, b.count) for b in plan(items, Limits())] == [(0, 130), (1999, 2)]


@given(items_of_a_map())
def test_one_request_per_item(items: list[Item]) -> None:
    """``alone`` reads every item by a request of exactly its own registers."""
    blocks = plan(items, Limits(alone=True))
    assert sorted(block.items[0] for block in blocks) == sorted(items)
    assert all((b.address, b.count, len(b.items)) == (b.items[0].address, b.items[0].width, 1) for b in blocks)


@given(items_of_a_map(), st.integers(1, 2000))
def test_coils_from_zero(items: list[Item], bits: int) -> None:
    """``coils_from_zero`` begins blocks of coils at 0 as far as the limit reaches, and leaves registers alone."""
    for block in plan(items, Limits(bits=bits, coils_from_zero=True)):
        assert all(block.address <= i.address and i.end <= block.address + block.count for i in block.items)
        end = max(item.end for item in block.items)
        if block.function <= 2:
            assert block.count <= bits
            assert block.address == (0 if end <= bits else block.items[0].address)
        else:
            assert block.address == block.items[0].address
