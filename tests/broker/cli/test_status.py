"""What commands say when the running core answers with an error."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker.api.core import TOKEN, Core, running_core
from tests.broker.cli.conftest import Said

Fairlead = Callable[..., Said]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core that the command line finds, and the sign of life of acquire."""
    with running_core(tmp_path) as core:
        data_dir = core.services.config.data_dir
        (data_dir / "core.json").write_text(json.dumps({"url": core.url, "token": TOKEN}), encoding="utf-8")
        (data_dir / "acquire.json").touch()
        yield core


def test_a_core_whose_writer_hangs_says_so(fairlead: Fairlead, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1 with what /healthz says, how long it is silent; 0 before."""
    at = ("-c", str(core.services.config.path))
    assert fairlead("status", "--alive", *at).code == 0
    core.services.writer.stop()
    monkeypatch.setattr(core.services.writer, "beat_s", time.monotonic() - 45)
    said = fairlead("status", "--alive", *at)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("fairlead: core is not alive: its writer thread gave its last sign of life 4")


def test_every_parameter_that_core_does_not_take_is_named(fairlead: Fairlead, core: Core) -> None:
    """A 422 has a list: where, and what is wrong."""
    said = fairlead("replay", "--from", "2h", "--reason", "x" * 501, "-c", str(core.services.config.path))
    assert said.code == 1
    assert said.err.startswith("fairlead: body.reason: String should have at most 500 characters")


def test_without_a_broker_the_help_and_the_code_agree(fairlead: Fairlead, make_site: Callable[..., Path]) -> None:
    """75, as the help of --alive says."""
    assert fairlead("status", "--alive", "-c", str(make_site())).code == 75
    assert "exit 1 or 75: not" in " ".join(fairlead("status", "--help").out.replace("│", " ").split())
