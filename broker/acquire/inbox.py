"""Commands of people into the journal: looked for twice a second, removed when they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker import commands
from broker.journal import JournalWriter
from schemas.entries import Notice
from schemas.errors import JournalError

LOOK_S: Final = 0.5


async def take_commands(
    journal: JournalWriter, data_dir: Path, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """
    Journal what waits in ``data_dir/commands``, until cancelled.

    A file that holds no command, or one that the journal has no place for, is set aside as ``.bad`` and becomes a
    notice. While the journal refuses, or a file cannot be removed, it is tried again; core takes a command once,
    however often it comes.
    """
    done: set[Path] = set()
    while True:
        try:
            found = commands.waiting(data_dir)
        except OSError:
            found = []  # whoever leaves a command there is told that it cannot be
        done &= set(found)
        for path in found:
            if path not in done and await _take(journal, path):
                done.add(path)
        await sleep(LOOK_S)


async def _take(journal: JournalWriter, path: Path) -> bool:
    """Journal one file; whether that is done with."""
    try:
        body = commands.read(path)
    except OSError:
        return False
    except ValueError as error:
        return await _refuse(journal, path, f"holds no command: {error}")
    try:
        await asyncio.wrap_future(await journal.append_async(body))
    except JournalError:
        return False
    except ValueError as error:
        return await _refuse(journal, path, f"cannot be taken: {error}")
    with suppress(OSError):
        commands.settle(path, bad=False)
    return True


async def _refuse(journal: JournalWriter, path: Path, why: str) -> bool:
    """Note why a file is set aside; whether that is durable."""
    # any bytes may be a file's name, and the journal holds text
    notice = Notice("command_refused", f"{path.name!a} {why}")
    try:
        await asyncio.wrap_future(await journal.append_async(notice))
    except JournalError:
        return False
    with suppress(OSError):
        commands.settle(path, bad=True)
    return True
