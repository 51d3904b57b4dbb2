"""The socket of the API, bound before anything else begins, so that an address that cannot be had is told as such."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from broker.api.options import ApiOptions
from schemas.errors import FairleadError

_BACKLOG: Final = 2048  # uvicorn's default
#: What a person can do. All but the lasting may be over in a moment by itself: another program ends, an interface comes
#: up, memory is free again.
_PASSING: Final = {
    errno.EADDRINUSE: "another program, or another Fairlead, listens there: end it, or write a free port",
    errno.EADDRNOTAVAIL: "this machine does not have the address now: write one that `ip address` shows",
}
_LASTING: Final = {
    errno.EACCES: "this user may not listen there: write a port from 1024 on, or allow CAP_NET_BIND_SERVICE",
}


class CannotListen(FairleadError):
    """
    The address of ``api.listen`` cannot be had; the message names option, address and remedy.

    ``passing``: it may be free later, and another attempt makes sense.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def listen(options: ApiOptions) -> socket.socket:
    """A listening socket on the address of *options*, for the caller to close. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # a restart must not wait for connections of before in TIME_WAIT; on Windows it would share the port
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((options.host, options.port))
            # of two that are bound with SO_REUSEADDR only the second to listen is refused
            made.listen(_BACKLOG)
        except OSError:
            made.close()
            raise
    except OSError as error:
        number = error.errno or 0
        remedy = _PASSING.get(number) or _LASTING.get(number) or error.strerror or str(error)
        raise CannotListen(f"api.listen {options.listen}: {remedy}", passing=number not in _LASTING) from None
    return made
