"""A core for each test of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.api.core import Core, running_core


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core over an empty journal, with one person of each role."""
    with running_core(tmp_path) as core:
        yield core
