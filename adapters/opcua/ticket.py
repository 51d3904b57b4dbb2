"""
What takes a session up again on another connection, also after a kill of ours.

A session that nobody closed stays at the server until it times out, and many servers allow few: ten kills within five
minutes would lock us out. With the ticket in a file the next process goes on with the very session, its queue and its
outstanding messages, as after a cut cable; also on a server that transfers no subscriptions.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary

from adapters.opcua.config import OpcUaOptions
from adapters.opcua.progress import replace_file

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Ticket:
    """
    The session's authentication token, the server's last nonce, which we sign, and its user token policies.

    Who has it can take the session over where the channel is not secured; elsewhere our private key is needed as well.
    """

    token: ua.NodeId
    nonce: bytes | None
    policies: list[ua.UserTokenPolicy]


class TicketFile:
    """
    The ticket of one source in a private file.

    *identity* names the endpoint and who we are there: another's session is not asked for. A file that is missing,
    damaged or of another identity is no ticket.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._identity = identity

    def load(self) -> Ticket | None:
        """The ticket, if there is one."""
        try:
            content: Any = json.loads(self._path.read_text(encoding="utf-8"))
            if content["version"] != _VERSION or content["identity"] != self._identity:
                return None
            nonce = content["nonce"]
            return Ticket(
                ua_binary.nodeid_from_binary(Buffer(base64.b64decode(content["token"], validate=True))),
                None if nonce is None else base64.b64decode(nonce, validate=True),
                [
                    ua_binary.struct_from_binary(ua.UserTokenPolicy, Buffer(base64.b64decode(one, validate=True)))
                    for one in content["policies"]
                ],
            )
        except (OSError, ValueError, LookupError, TypeError, ua.UaError, struct.error):
            return None

    def save(self, ticket: Ticket) -> None:
        """Replace the file. Raises OSError."""
        content = {
            "version": _VERSION,
            "identity": self._identity,
            "token": _text(ua_binary.nodeid_to_binary(ticket.token)),
            "nonce": None if ticket.nonce is None else _text(ticket.nonce),
            "policies": [_text(ua_binary.struct_to_binary(one)) for one in ticket.policies],
        }
        replace_file(self._path, json.dumps(content))

    def remove(self) -> None:
        """The session has ended. A file that stays is refused by the server the next time."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def identity(options: OpcUaOptions, source: str) -> str:
    """Names the server, and who we are there."""
    user = None if options.user is None else options.user.model_dump(mode="json")
    said = [options.endpoint, options.security, options.uri(source), user]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


class TicketKeeper:
    """
    The ticket of the present session, ``ticket``: for the next connection, and in *file* for the next process.

    Counters: ``state_unsaved`` failures to write the file.

    Args:
        file: where it lies.
        lasting: whether the next process is to have it; if not, the file is neither read nor written.
        counters: of the adapter.
    """

    def __init__(self, file: TicketFile, counters: Counter[str], *, lasting: bool) -> None:
        self.ticket: Ticket | None = None
        self._file = file
        self._counters = counters
        self._lasting = lasting
        self._read = False

    async def load(self) -> None:
        """Take what the last process left, once."""
        if self._lasting and not self._read:
            self.ticket = await asyncio.to_thread(self._file.load)
        self._read = True

    async def keep(self, ticket: Ticket | None) -> None:
        """Have this one from now on."""
        self.ticket = ticket
        if ticket is not None and self._lasting:
            try:
                await asyncio.to_thread(self._file.save, ticket)
            except OSError:
                self._counters["state_unsaved"] += 1

    def forget(self) -> None:
        """Make a new session next time; the next process may still take up this one."""
        self.ticket = None

    def remove(self) -> None:
        """The session has ended: nobody can take it up."""
        self.ticket = None
        self._file.remove()


def _text(binary: bytes) -> str:
    return base64.b64encode(binary).decode()
