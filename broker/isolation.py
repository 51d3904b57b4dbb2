"""
Refuse an environment in which another distribution installs a package of ours.

``adapters`` and ``llm`` are also names of public packages; whoever comes second overwrites files of the first, and
the program would run code of both. Source: design, Packaging.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

PACKAGES: Final = ("schemas", "adapters", "normalizers", "detectors", "llm", "broker", "simulators")
DISTRIBUTION: Final = "fairlead"


def top_level_names(distribution: Distribution) -> set[str]:
    """Names that a distribution installs at the top: of packages and of modules."""
    names: set[str] = set()
    for file in distribution.files or ():
        first = file.parts[0]
        if len(file.parts) > 1:
            names.add(first)
        elif first.endswith(".py"):
            names.add(first.removesuffix(".py"))
    return names


def conflicts(installed: Iterable[tuple[str, set[str]]] | None = None) -> list[str]:
    """
    What is wrong with the environment, one sentence each; empty when nothing is.

    *installed* are names of distributions and what each installs at the top; default: this environment's.
    """
    if installed is None:
        installed = ((dist.metadata["Name"] or "", top_level_names(dist)) for dist in distributions())
    found = [
        f"the distribution {name!r} installs the package {package!r}, which belongs to Fairlead"
        for name, tops in installed
        if name.lower() != DISTRIBUTION
        for package in PACKAGES
        if package in tops
    ]
    return found + _elsewhere({name: _home(name) for name in PACKAGES})


def _home(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).resolve().parent.parent if spec is not None and spec.origin else None


def _elsewhere(homes: Mapping[str, Path | None]) -> list[str]:
    """Packages that would be imported from another folder than this program's."""
    own = Path(__file__).resolve().parent.parent
    return [
        f"the package {name!r} would come from {home}, not from {own}"
        for name, home in homes.items()
        if home is not None and home != own
    ]
