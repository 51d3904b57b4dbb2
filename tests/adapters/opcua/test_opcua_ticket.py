"""A session that a kill left behind is taken up again: servers allow few of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from asyncua import ua

from adapters.opcua import OpcUaAdapter
from adapters.opcua.ticket import Ticket, TicketFile
from tests.node_opcua import URI as NODE_URI
from tests.node_opcua import NodeOpcUa, tick_of

Make = Callable[..., OpcUaAdapter]
Crash = Callable[[OpcUaAdapter], Awaitable[None]]
#: node-opcua allows ten sessions.
KILLS = 12


async def test_more_kills_than_the_server_has_sessions(
    peer: NodeOpcUa, make_tags, make_adapter: Make, take, crash: Crash
) -> None:
    """Every new process goes on with the one session, and no tick is missing."""
    ticks: list[int] = []
    for kill in range(KILLS):
        adapter = make_adapter(peer.endpoint, make_tags("Line1.UInt32", uri=NODE_URI))
        await adapter.connect()
        if kill:
            assert (adapter.facts["resume"], adapter.continuity) == ("same session", "kept")
        taken = await take(adapter, lambda t: len(t.values(0)) >= 2)
        assert taken.gaps == []
        ticks += [tick_of(int(at), peer.period_ms) for batch in taken.batches for at in batch.source_ns]
        await crash(adapter)
    assert not peer.missing(sorted(set(ticks)))


async def test_control_without_the_ticket_the_server_is_full(
    server, make_tags, make_adapter: Make, take, crash: Crash, tmp_path: Path
) -> None:
    """Negative control: where the file is gone each process makes a session of its own."""
    tags = make_tags("N")
    first = make_adapter(server.endpoint, tags)
    await first.connect()
    await take(first, lambda t: len(t.values(0)) >= 2)
    before = first._session.ticket
    await crash(first)
    (tmp_path / "state" / "session.json").unlink()
    again = make_adapter(server.endpoint, tags)
    await again.connect()
    assert again.facts["resume"] == "transferred"
    assert before is not None
    assert again._session.ticket is not None
    assert again._session.ticket.token != before.token


async def test_an_ended_session_leaves_no_ticket(server, make_tags, make_adapter: Make, tmp_path: Path) -> None:
    """A session that was closed cannot be taken up; one that is open has a file that only we can read."""
    path = tmp_path / "state" / "session.json"
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    assert path.stat().st_mode & 0o077 == 0
    await adapter.close()
    assert not path.exists()
    anew = make_adapter(server.endpoint, make_tags("N"), recover="recreate")
    await anew.connect()
    assert not path.exists()


async def test_a_session_that_the_server_does_not_know_costs_one_request(
    server, make_tags, make_adapter: Make, take, tmp_path: Path
) -> None:
    """A stale ticket is refused by the server, and a new session is made in the same connection."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    adapter._session._file.save(Ticket(ua.NodeId(b"gone long ago", 0), b"nonce", []))
    await adapter.connect()
    assert (await take(adapter, lambda t: len(t.values(0)) >= 2)).gaps == []


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Token, nonce and policies come back as they were, for the same server and user alone."""
    policy = ua.UserTokenPolicy(PolicyId="anonymous", TokenType=ua.UserTokenType.Anonymous, SecurityPolicyUri="")
    ticket = Ticket(ua.NodeId(b"\x00\xfftoken", 3), b"\x01" * 32, [policy])
    path = tmp_path / "session.json"
    assert TicketFile(path, "us").load() is None
    TicketFile(path, "us").save(ticket)
    found = TicketFile(path, "us").load()
    assert found is not None
    assert (found.token, found.nonce) == (ticket.token, ticket.nonce)
    assert [(one.PolicyId, one.TokenType) for one in found.policies] == [("anonymous", ua.UserTokenType.Anonymous)]
    assert TicketFile(path, "another user").load() is None


@pytest.mark.parametrize(
    "change", [{"token": "AA=="}, {"token": 7}, {"nonce": "?"}, {"policies": ["AAAA"]}, {"version": 2}, {"policies": 1}]
)
def test_a_damaged_file_is_no_ticket(tmp_path: Path, change: dict[str, object]) -> None:
    """Whatever stands in it: the next session is then a new one."""
    path = tmp_path / "session.json"
    TicketFile(path, "us").save(Ticket(ua.NodeId(5, 1), None, []))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert TicketFile(path, "us").load() is None
    path.write_bytes(b"\xff{")
    assert TicketFile(path, "us").load() is None
