"""Fixtures of the contract tests: every registered kind, its peer, and an adapter on it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import adapters
from adapters.base import REGISTRY, Adapter, AdapterContext
from tests.contract.peers import PEERS, Peer

assert adapters  # importing the package fills the registry


@pytest.fixture(params=sorted(REGISTRY))
async def peer(
    request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int], need: Callable[[str], str]
) -> AsyncIterator[Peer]:
    """The peer of a kind, not started; ended behind the test. A kind without one fails."""
    if request.param not in PEERS:
        pytest.fail(f"kind {request.param!r} has no peer in tests/contract/peers.py")
    found = PEERS[request.param](tmp_path, free_port(), need)
    yield found
    await found.stop()


@pytest.fixture
async def make(peer: Peer, tmp_path: Path) -> AsyncIterator[Callable[[], Adapter]]:
    """Build adapters that read the peer, all with one state folder; closed behind the test."""
    made: list[Adapter] = []
    (tmp_path / "state").mkdir()

    def build() -> Adapter:
        spec = REGISTRY[peer.kind]
        context = AdapterContext("peer", peer.tags(), b"m" * 16, time.time_ns, tmp_path / "state", tmp_path)
        made.append(spec.build(spec.options.model_validate(peer.options()), context))
        return made[-1]

    yield build
    for adapter in made:
        await adapter.close()
