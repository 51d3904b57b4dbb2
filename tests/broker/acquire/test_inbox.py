"""Commands of people come into the journal once, whatever else lies in their folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker import commands
from broker.acquire.inbox import take_commands
from broker.commands.files import MOST_WAITING
from broker.journal import JournalWriter
from schemas.entries import Entry, Notice
from schemas.errors import FairleadError, Refused
from schemas.suppression import Command

Eventually = Callable[..., Awaitable[None]]


def command(number: int) -> Command:
    return Command(f"{number:032x}", "shelve", "a.moreau", "Acme/Lyon/P101", "", 1_900_000_000, "known\x00", number)


async def test_waiting_commands_are_journalled_in_the_order_of_asking(
    tmp_path: Path, journal: JournalWriter, read: Callable[[], list[Entry]], eventually: Eventually
) -> None:
    """They are removed when they are durable; rubbish becomes a notice and is set aside."""
    for number in (3, 1, 2):
        commands.put(tmp_path, command(number))
    (commands.folder(tmp_path) / "4.json").write_text("{}")
    (commands.folder(tmp_path) / "5.json").write_bytes(b"x" * 100_000)
    (commands.folder(tmp_path) / ".6.part").write_text("half")
    taking = asyncio.create_task(take_commands(journal, tmp_path))
    await eventually(lambda: not commands.waiting(tmp_path))
    taking.cancel()

    bodies = [entry.body for entry in read()]
    assert [body for body in bodies if isinstance(body, Command)] == [command(n) for n in (1, 2, 3)]
    assert [body.action for body in bodies if isinstance(body, Notice)] == ["command_refused"] * 2
    assert sorted(path.name for path in commands.folder(tmp_path).iterdir()) == [".6.part", "4.bad", "5.bad"]


async def test_number_that_the_journal_has_no_place_for_is_set_aside(
    tmp_path: Path, journal: JournalWriter, read: Callable[[], list[Entry]], eventually: Eventually
) -> None:
    """It is noted once and not tried for ever; the next one is taken."""
    commands.put(tmp_path, replace(command(1), until_ns=2**64))
    commands.put(tmp_path, command(2))
    taking = asyncio.create_task(take_commands(journal, tmp_path))
    await eventually(lambda: not commands.waiting(tmp_path))
    taking.cancel()

    refused, taken = (entry.body for entry in read())
    assert isinstance(refused, Notice)
    assert "cannot be taken" in refused.text
    assert taken == command(2)
    assert [path.suffix for path in commands.folder(tmp_path).iterdir()] == [".bad"]


async def test_what_cannot_be_read_is_told_once(
    tmp_path: Path, journal: JournalWriter, read: Callable[[], list[Entry]], eventually: Eventually
) -> None:
    """A file of another user, say: others are taken, and it is tried again, and told no second time."""
    folder = commands.folder(tmp_path)
    folder.write_text("a file in its place")
    looked = 0

    async def sleep(_: float) -> None:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0)

    def notices() -> list[str]:
        return [entry.body.text for entry in read() if isinstance(entry.body, Notice)]

    taking = asyncio.create_task(take_commands(journal, tmp_path, sleep=sleep))
    await eventually(notices)
    folder.unlink()
    (folder / "1.json").mkdir(parents=True)
    commands.put(tmp_path, command(2))
    await eventually(lambda: len(notices()) == 2 and len(commands.waiting(tmp_path)) == 1)
    before = looked
    await eventually(lambda: looked > before + 3)
    taking.cancel()

    folder_told, file_told = notices()
    assert "the folder of commands cannot be listed" in folder_told
    assert "a command cannot be read" in file_told
    assert "1.json" in file_told
    assert [entry.body for entry in read() if isinstance(entry.body, Command)] == [command(2)]


async def test_command_waits_while_the_journal_is_closed(
    tmp_path: Path, journal: JournalWriter, eventually: Eventually
) -> None:
    """What is not durable stays a file."""
    journal.close()
    commands.put(tmp_path, command(1))
    looked = 0

    async def sleep(_: float) -> None:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0)

    taking = asyncio.create_task(take_commands(journal, tmp_path, sleep=sleep))
    await eventually(lambda: looked > 2)
    taking.cancel()
    assert len(commands.waiting(tmp_path)) == 1


def test_too_many_wait(tmp_path: Path) -> None:
    """A folder that nobody empties does not grow for ever."""
    for number in range(MOST_WAITING):
        (commands.folder(tmp_path)).mkdir(exist_ok=True)
        (commands.folder(tmp_path) / f"{number}.json").touch()
    with pytest.raises(Refused, match="does acquire run"):
        commands.put(tmp_path, command(1))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
def test_a_command_is_durable_with_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before its name, then the folders: a power cut after the answer loses nothing."""
    synced: list[tuple[str, list[str]]] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        place = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.append((place.name, sorted(path.suffix for path in place.iterdir()) if place.is_dir() else []))

    monkeypatch.setattr(os, "fsync", noted)
    commands.put(tmp_path / "data", command(1))
    assert synced[0][0] == f".{command(1).command_id}.part"
    assert ("commands", [".json"]) in synced[1:]
    assert ("data", [""]) in synced[1:]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_leaves_belongs_to_whom_acquire_runs_as(tmp_path: Path) -> None:
    """The folder too, also one that root made before."""
    (tmp_path / "journal").mkdir()
    commands.put(tmp_path, command(1))
    os.chown(tmp_path / "journal", 4711, 4712)
    commands.put(tmp_path, command(2))
    [_, path] = commands.waiting(tmp_path)
    for one in (path, commands.folder(tmp_path)):
        assert (one.stat().st_uid, one.stat().st_gid) == (4711, 4712)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="files have no such owner")
def test_what_acquire_could_not_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait there for ever."""
    (tmp_path / "journal").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "journal").stat().st_uid + 1)
    with pytest.raises(Refused, match="ask as that user or root"):
        commands.put(tmp_path, command(1))
    assert not commands.folder(tmp_path).exists()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said where, and nothing is left."""
    commands.folder(tmp_path).write_text("a file in its place")
    with pytest.raises(FairleadError, match="cannot be left for acquire"):
        commands.put(tmp_path, command(1))
