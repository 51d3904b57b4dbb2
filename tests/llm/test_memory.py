"""How much memory is free, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm.memory import available, needed

MEMINFO = "MemTotal:       8000000 kB\nMemFree:         100000 kB\nMemAvailable:   4000000 kB\n"


def write(root: Path, meminfo: str = MEMINFO, group: str = "0::/system.slice/fairlead.service\n") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(meminfo)
    (root / "proc/self/cgroup").write_text(group)
    return root


def limit(root: Path, path: str, most: str, current: int, inactive: int = 0) -> None:
    place = root / "sys/fs/cgroup" / path
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(f"{most}\n")
    (place / "memory.current").write_text(f"{current}\n")
    (place / "memory.stat").write_text(f"anon 5\nfile 6\ninactive_file {inactive}\n")


def test_machine_without_groups(tmp_path: Path) -> None:
    assert available(write(tmp_path)) == 4_000_000 << 10


def test_the_narrowest_group_above_holds(tmp_path: Path) -> None:
    """A limit of a slice holds for its services; file pages out of use count as free, ``max`` is no limit."""
    root = write(tmp_path)
    limit(root, "system.slice/fairlead.service", "max", 10)
    limit(root, "system.slice", "1000000", 900_000, 300_000)
    assert available(root) == 400_000
    limit(root, "system.slice/fairlead.service", "50", 90)
    assert available(root) == 0


@pytest.mark.parametrize("meminfo", ["", "MemAvailable:\n", "MemAvailable: many kB\n"])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, meminfo: str) -> None:
    assert available(write(tmp_path, meminfo)) is None
    assert available(tmp_path / "elsewhere") is None


def test_this_machine_has_some() -> None:
    found = available()
    assert found is None or found > 0
    assert needed(10**9) > 10**9
