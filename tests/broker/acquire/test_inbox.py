"""Commands of people come into the journal once, whatever else lies in their folder."""

from __future__ import annotations

import asyncio
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


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said where, and nothing is left."""
    commands.folder(tmp_path).write_text("a file in its place")
    with pytest.raises(FairleadError, match="cannot be left for acquire"):
        commands.put(tmp_path, command(1))
