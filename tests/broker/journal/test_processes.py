"""Writer and reader in different processes, and a writer that is killed."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter
from schemas.entries import START, Position
from schemas.samples import SampleBatch

MakeBatch = Callable[[int, int], SampleBatch]

#: Appends numbered batches for ever and reports each on stdout, only when its future is done.
WRITER = """
import sys
from pathlib import Path
from broker import events
from broker.journal import JournalOptions, JournalWriter
from schemas.samples import SampleBatch
events.set_up("error")
writer = JournalWriter(Path(sys.argv[1]), JournalOptions.model_validate(
    {"segment": "64KiB", "max_size": "64MiB", "commit": {"every": "1ms"}}))
writer.open()
number = int(sys.argv[2])
while True:
    futures = []
    for _ in range(20):
        batch = SampleBatch.build("s", bytes(16), number, tag=[1], source_ns=[number], value=[float(number)])
        futures.append((number, writer.append(batch)))
        number += 1
    for count, future in futures:
        future.result()
        print(count, flush=True)
"""


def read_all(reader: JournalFiles, after: Position = START) -> list[int]:
    found: list[int] = []
    while entries := reader.read(after, 500):
        after = entries[-1].position
        found += [entry.body.received_ns for entry in entries if isinstance(entry.body, SampleBatch)]
        assert all(isinstance(entry.body, SampleBatch) for entry in entries)
    return found


@pytest.fixture
def start(tmp_path: Path) -> Callable[[int], subprocess.Popen[str]]:
    def run(number: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        )

    return run


def test_kill_loses_nothing_settled(tmp_path: Path, start: Callable[[int], subprocess.Popen[str]]) -> None:
    """Ten writers are killed while they write; every entry they reported is there, once and in order."""
    settled: list[int] = []
    rng = random.Random(5)
    for _ in range(10):
        writer = start(settled[-1] + 1 if settled else 0)
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(rng.randint(5, 200))]
        writer.kill()
        lines += writer.stdout.read().splitlines(keepends=True)
        writer.wait(120)
        writer.stdout.close()
        settled += [int(line) for line in lines if line.endswith("\n")]

    found = read_all(JournalFiles(tmp_path))

    assert set(settled) <= set(found)
    assert len(settled) > 100


def test_reader_follows_a_live_writer(tmp_path: Path, start: Callable[[int], subprocess.Popen[str]]) -> None:
    """A reader beside a running writer sees every entry once, in order, across segments."""
    writer = start(0)
    assert writer.stdout is not None
    reader = JournalFiles(tmp_path)
    after, found = START, []
    while len(found) < 3000:
        writer.stdout.readline()
        for entry in reader.read(after, 100):
            assert isinstance(entry.body, SampleBatch)
            found.append(entry.body.received_ns)
            after = entry.position
    writer.kill()
    writer.wait(120)
    writer.stdout.close()

    assert found == list(range(len(found)))
    assert len(list(tmp_path.glob("*.seg"))) > 2


def test_reader_stays_behind_the_mark(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """What stands in a segment behind the durable mark is not handed out."""
    writer = JournalWriter(tmp_path, small)
    writer.open()
    writer.append(batch(0, 3)).result(120)
    reader = JournalFiles(tmp_path)
    first = list(reader.read(START))
    mark = (tmp_path / "durable").read_bytes()
    writer.append(batch(1, 3)).result(120)
    after_second = (tmp_path / "durable").read_bytes()
    (tmp_path / "durable").write_bytes(mark)

    hidden = list(reader.read(first[-1].position))
    (tmp_path / "durable").write_bytes(after_second)
    shown = list(reader.read(first[-1].position))
    writer.close()

    assert len(first) == 1
    assert hidden == []
    assert len(shown) == 1


def test_position_is_published(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """The writer sees how far core has come; a position file that cannot be read counts as the beginning."""
    writer = JournalWriter(tmp_path, small)
    writer.open()
    place = writer.append(batch(0, 3)).result(120)
    reader = JournalFiles(tmp_path)
    reader.done(place)

    assert writer._log.published() == place
    (tmp_path / "position.json").write_text("{")
    assert writer._log.published() == START
    writer.close()


async def test_append_from_a_loop_waits_for_room(
    tmp_path: Path, small: JournalOptions, batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than may wait is not queued: append_async waits until the thread has taken some."""
    monkeypatch.setattr("broker.journal.writer.WAITING_BYTES", 2_000)
    writer = JournalWriter(tmp_path, small)
    writer.open()
    most = 0
    futures = []
    for number in range(300):
        futures.append(await writer.append_async(batch(number, 3)))
        most = max(most, writer.status().waiting)
    for future in futures:
        future.result(120)
    writer.close()

    assert most < 2_400
    assert read_all(JournalFiles(tmp_path)) == list(range(300))
