"""Commands of people into the journal: looked for twice a second, removed when they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
    notice. While the journal refuses, or a file (the folder) cannot be read or a file cannot be removed, it is tried
    again; the first failure of the disk at each is a notice. Core takes a command once, however often it comes.
    """
    inbox = _Inbox(journal, data_dir)
    while True:
        await inbox.look()
        await sleep(LOOK_S)


class _Inbox:
    """The folder of commands; the disk is asked in a thread, since adapters share the event loop."""

    def __init__(self, journal: JournalWriter, data_dir: Path) -> None:
        self._journal = journal
        self._data_dir = data_dir
        self._done: set[Path] = set()
        self._told: set[Path] = set()

    async def look(self) -> None:
        """Journal what waits now."""
        folder = commands.folder(self._data_dir)
        try:
            found = await asyncio.to_thread(commands.waiting, self._data_dir)
        except OSError as error:
            await self._tell(folder, "the folder of commands cannot be listed", error)
            return
        self._done &= set(found)
        self._told &= set(found)
        for path in found:
            if path not in self._done and await self._take(path):
                self._done.add(path)

    async def _take(self, path: Path) -> bool:
        """Journal one file; whether that is done with."""
        try:
            body = await asyncio.to_thread(commands.read, path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # else somebody took the command back
                await self._tell(path, "a command cannot be read", error)
            return False
        except ValueError as error:
            return await self._refuse(path, f"holds no command: {error}")
        try:
            await asyncio.wrap_future(await self._journal.append_async(body))
        except JournalError:
            return False
        except ValueError as error:
            return await self._refuse(path, f"cannot be taken: {error}")
        await self._settle(path, bad=False)
        return True

    async def _refuse(self, path: Path, why: str) -> bool:
        """Note why a file is set aside; whether that is durable."""
        # any bytes may be a file's name, and the journal holds text
        if not await self._note(Notice("command_refused", f"{path.name!a} {why}")):
            return False
        await self._settle(path, bad=True)
        return True

    async def _settle(self, path: Path, *, bad: bool) -> None:
        try:
            await asyncio.to_thread(commands.settle, path, bad=bad)
        except OSError as error:
            await self._tell(path, "a command that was taken cannot be removed", error)

    async def _tell(self, path: Path, what: str, error: OSError) -> None:
        """Note the first failure at *path*; it may last for days."""
        if path in self._told:
            return
        reason = error.strerror or type(error).__name__
        text = f"{what}, see who owns it: {str(path)!a}: {reason}"
        if await self._note(Notice("command_unreadable", text)):
            self._told.add(path)

    async def _note(self, notice: Notice) -> bool:
        """Whether a notice is durable."""
        try:
            await asyncio.wrap_future(await self._journal.append_async(notice))
        except JournalError:
            return False
        return True
