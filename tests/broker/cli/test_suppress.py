"""``fairlead shelve`` and ``maintenance`` without a running core: left for acquire, checked against the map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker import commands

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]


def test_command_is_left_for_acquire(fairlead: Fairlead, make_site: MakeSite) -> None:
    """The id on standard output, a word about when it takes effect on standard error."""
    config = str(make_site())
    said = fairlead("shelve", "Acme/Lyon/A/Flow", "--until", "8h", "--reason", "known", "-c", config)
    assert said.code == 0
    assert "it takes effect when acquire runs" in said.err
    on = fairlead("maintenance", "on", "Acme/Lyon/A", "--reason", "bearing", "-c", config)
    fairlead("unshelve", said.out.strip(), "-c", config)
    fairlead("maintenance", "off", on.out.strip(), "--reason", "done", "-c", config)

    found = [commands.read(path) for path in commands.waiting(Path(config).parent / "var")]
    assert [(one.action, one.target) for one in found] == [
        ("shelve", "Acme/Lyon/A/Flow"),
        ("maintenance", "Acme/Lyon/A"),
        ("end", said.out.strip()),
        ("end", on.out.strip()),
    ]
    shelf = found[0]
    assert shelf.until_ns is not None
    assert shelf.until_ns - shelf.asked_ns == 8 * 3600 * 10**9
    assert shelf.actor == "command line"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shelve", "Acme/Lyon/A/Flow", "--reason", "x"], "a shelf needs TARGET, --until and --reason"),
        (["shelve", "Acme/Lyon/A/Flow", "--until", "soon", "--reason", "x"], "neither a time"),
        (["shelve", "Acme/Lyon/B", "--until", "8h", "--reason", "x"], "no tag or equipment Acme/Lyon/B"),
        (["maintenance", "on", "Acme/Lyon/A", "--until", "9" * 400 + "d", "--reason", "x"], "longer than any calendar"),
        (["maintenance", "on", "Acme/Lyon/A", "--until", "120000d", "--reason", "x"], "more than ten years ahead"),
        (["maintenance", "on", "Acme/Lyon/A/Flow", "--reason", "x"], "maintenance is about equipment"),
    ],
)
def test_mistakes_leave_nothing(fairlead: Fairlead, make_site: MakeSite, arguments: list[str], said: str) -> None:
    """An error for the person, exit code above 0, no file."""
    config = make_site()
    answer = fairlead(*arguments, "-c", str(config))
    assert answer.code != 0
    assert said in " ".join(answer.text.split())
    assert commands.waiting(config.parent / "var") == []


def test_lists(fairlead: Fairlead, make_site: MakeSite) -> None:
    """What is in force; nothing is said plainly."""
    config = str(make_site())
    fairlead("db", "upgrade", "-c", config)
    assert "nothing is shelved" in fairlead("shelve", "--list", "-c", config).text
    assert "nothing is in maintenance" in fairlead("maintenance", "list", "-c", config).text
