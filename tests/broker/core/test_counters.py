"""Counters from the journal into SQL: sums by minute and hour, a restart in the middle, a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.core.pipeline import Pipeline
from broker.core.replay import Replay
from broker.core.replay_outcome import ReplayRequest
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer, NormalizerOptions
from schemas.entries import MapInForce, Tick
from schemas.samples import SampleBatch
from schemas.status import Flag
from schemas.tagmap import Counter, Tag, TagMap
from tests.broker.store.plant import rows_of

S = 1_000_000_000
HOUR = 3600 * S
T0 = 1_790_000_000 * S // HOUR * HOUR
MODULUS = 1000
Opener = Callable[..., Store]


def site(*, counter: Counter | None, factor: float = 1.0) -> TagMap:
    """A meter that counts to 999, and a temperature."""
    return TagMap(
        site="Acme/Lyon",
        tags=(
            Tag(
                number=0,
                id="t-energy",
                path="Acme/Lyon/A/Energy",
                source="plc",
                address="40001",
                type="uint16",
                factor=factor,
                unit="kW.h",
                counter=counter,
            ),
            Tag(number=1, id="t-temp", path="Acme/Lyon/A/Temp", source="plc", address="40002", unit="Cel"),
        ),
    )


METER = site(counter=Counter(modulus=MODULUS, max_rate=20.0))
PLAIN = site(counter=None)


class Plant:
    """Writes a journal: each of *shown* one second after the one before; a second without a value is None."""

    def __init__(self, folder: Path) -> None:
        self.now_ns = T0
        # small segments, so that a replay does not read more than it asks for
        options = JournalOptions.model_validate({"commit": {"every": "1ms"}, "segment": "8KiB"})
        self.writer = JournalWriter(folder, options, now_ns=lambda: self.now_ns, mono_ns=lambda: self.now_ns)
        self.writer.open()

    def use(self, tag_map: TagMap) -> None:
        self.writer.append(MapInForce(tag_map.revision, tag_map.body)).result(60)

    def run(self, tag_map: TagMap, shown: Sequence[float | None]) -> None:
        for value in shown:
            self.now_ns += S
            if value is not None:
                columns = {"source_ns": [self.now_ns, self.now_ns], "value": [value, 20.0]}
                batch = SampleBatch.build("plc", tag_map.revision, self.now_ns, tag=[0, 1], **columns)
                self.writer.append(batch)
            self.writer.append(Tick()).result(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def plant(folder: Path) -> Iterator[Plant]:
    made = Plant(folder)
    yield made
    made.writer.close()


@pytest.fixture
def store(open_store: Opener, url: str | None) -> Store:
    """On SQLite and on PostgreSQL."""
    return open_store(url)


def catch_up(store: Store, folder: Path, *, save: bool = True) -> None:
    """A core of its own takes what the journal has; without *save* it dies."""
    with closing(JournalFiles(folder)) as files:
        detection = Detection(DetectionOptions(enabled=False))
        made = Pipeline(store, files, Normalizer(NormalizerOptions()), detection)
        made.restore()
        while made.run_once():
            pass
        if save:
            made.save()


def replay(store: Store, folder: Path, tag_map: TagMap, from_ns: int) -> None:
    def write(command: Any) -> Any:
        with store.transaction() as tx:
            return command(tx)

    request = ReplayRequest(from_ns=from_ns, to_ns=T0 + 9 * HOUR, tag_map=tag_map, actor="i.kaya", reason="counter")
    place: dict[str, Any] = {"committed": store.position(), "keep_s": 90 * 86400.0, "write": write}
    job = Replay(folder, store.reader(), NormalizerOptions(), request, **place)
    job.check()
    job.begin()
    job.run()


def energy(store: Store, columns: str = "source_ns, value, increase, flags") -> list[tuple[Any, ...]]:
    return rows_of(store, f"SELECT {columns} FROM v_records WHERE tag = 't-energy' ORDER BY source_ns")


def sums(store: Store, level: str) -> list[tuple[Any, ...]]:
    columns = "bucket_ns, increase, counter_resets, counter_uncertain"
    return rows_of(store, f"SELECT {columns} FROM v_rollup_{level} WHERE tag = 't-energy' ORDER BY bucket_ns")


#: Two minutes at 9 a second through a roll-over, a reset, and a gap of ten minutes that may be half a round or more.
SHOWN = [(900.0 + 9 * second) % MODULUS for second in range(59)] + [0.0, 9.0, 18.0] + [None] * 600 + [17.0, 26.0]


def test_sums_by_minute_and_hour(store: Store, plant: Plant, folder: Path) -> None:
    """An MES reads what was counted in a minute or hour, and whether something is missing in it."""
    plant.use(METER)
    plant.run(METER, SHOWN)
    catch_up(store, folder)

    rolled = int(Flag.COUNTER_ROLLOVER)
    assert [row[1:] for row in energy(store)][:13] == [
        *((900.0 + 9 * at, None if at == 0 else 9.0, 0) for at in range(12)),
        (8.0, 9.0, rolled),
    ]
    assert [row[1:] for row in energy(store)][-5:] == [
        (0.0, 0.0, int(Flag.COUNTER_RESET)),
        (9.0, 9.0, 0),
        (18.0, 9.0, 0),
        (17.0, None, int(Flag.COUNTER_UNCERTAIN)),
        (26.0, 9.0, 0),
    ]
    # the reset is the row of the next minute
    assert sums(store, "1m") == [
        (T0, 58 * 9.0, 0, 0),
        (T0 + 60 * S, 18.0, 1, 0),
        (T0 + 660 * S, 9.0, 0, 1),
    ]
    assert sums(store, "1h") == [(T0, 61 * 9.0, 1, 1)]
    assert rows_of(store, "SELECT DISTINCT increase FROM v_rollup_1h WHERE tag = 't-temp'") == [(None,)]
    row = store.reader().current("*Energy")[0].record
    assert (row.value, row.increase) == (26.0, 9.0)


@pytest.mark.parametrize("cut", [1, 11, 12, 59, 60, 63])
def test_a_restart_in_the_middle(open_store: Opener, plant: Plant, folder: Path, cut: int) -> None:
    """A core that dies anywhere leaves what one that lives does: rows, flags and sums."""
    store, whole = open_store(None), open_store(None, "whole")
    values = [value for value in SHOWN if value is not None]
    plant.use(METER)
    plant.run(METER, values[:cut])
    catch_up(store, folder, save=cut % 2 == 0)
    store._memory = None
    plant.run(METER, values[cut:])
    catch_up(store, folder)
    catch_up(whole, folder)
    assert energy(store) == energy(whole)
    assert (sums(store, "1m"), sums(store, "1h")) == (sums(whole, "1m"), sums(whole, "1h"))


def test_a_replay_makes_increases_of_a_tag_that_was_none(store: Store, plant: Plant, folder: Path) -> None:
    """The counter is declared too late: a replay gives rows and sums as if it had been there from the beginning."""
    plant.use(PLAIN)
    plant.run(PLAIN, SHOWN)
    catch_up(store, folder)
    assert {row[2] for row in energy(store)} == {None}
    replay(store, folder, METER, T0)
    assert sums(store, "1m") == [(T0, 58 * 9.0, 0, 0), (T0 + 60 * S, 18.0, 1, 0), (T0 + 660 * S, 9.0, 0, 1)]
    assert sums(store, "1h") == [(T0, 61 * 9.0, 1, 1)]
    replay(store, folder, PLAIN, T0)
    assert sums(store, "1h") == [(T0, None, 0, 0)]


def test_a_replay_of_a_part_knows_the_row_before(store: Store, plant: Plant, folder: Path) -> None:
    """A corrected factor: its first row follows the last one before the span, though that is twelve minutes old."""
    wide = Counter(modulus=2**16, max_rate=20.0)
    meter, right = site(counter=wide), site(counter=wide, factor=2.0)
    plant.use(meter)
    plant.run(meter, [100.0, 109.0, *[None] * 720, 119.0, 128.0])
    catch_up(store, folder)
    before = energy(store, "increase, flags")
    replay(store, folder, right, plant.now_ns - S)
    assert before == [(None, 0), (9.0, 0), (10.0, 0), (9.0, 0)]
    assert energy(store, "increase, flags") == [(None, 0), (9.0, 0), (20.0, 0), (18.0, 0)]


def test_a_redelivery_is_not_counted_again(store: Store, plant: Plant, folder: Path) -> None:
    """The same message twice is one row, and the sum is that of one."""
    plant.use(METER)
    plant.run(METER, [990.0, 999.0, 8.0])
    times = [T0 + second * S for second in (1, 2, 3)]
    again = SampleBatch.build(
        "plc", METER.revision, plant.now_ns, tag=[0, 0, 0], source_ns=times, value=[990.0, 999.0, 8.0]
    )
    plant.writer.append(again).result(60)
    plant.run(METER, [17.0])
    catch_up(store, folder)
    assert len(energy(store)) == 4
    assert sums(store, "1h") == [(T0, 27.0, 0, 0)]
