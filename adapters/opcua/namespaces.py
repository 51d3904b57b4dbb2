"""
What stood at the namespace indices that ``ns=`` addresses use, when this server was first connected to.

A server may give an index to another namespace at each start (Part 3, 8.2.2), and another server behind the same
address does: the node that such an address then means is not the one that was mapped. ``nsu=`` addresses are resolved
at each connection and need none of this.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from adapters.opcua.progress import replace_file

_VERSION: Final = 1
_NAME: Final = "namespaces.json"


class NamespaceMemory:
    """
    The URI at each index in *indices*, over connections and restarts; namespace 0 is the same everywhere.

    A file that is missing or of another endpoint begins anew; one that cannot be read or written is counted as
    ``state_unsaved``, and memory stands for it.
    """

    def __init__(self, folder: Path, endpoint: str, indices: Collection[int], counters: Counter[str]) -> None:
        self._path = folder / _NAME
        self._endpoint = endpoint
        self._indices = sorted(set(indices) - {0})
        self._counters = counters
        self._known: dict[int, str] = {}
        self._behind = False

    def load(self) -> None:
        """Read the file; a person may have removed it, which accepts what the server has now."""
        if not self._indices or self._behind:
            return
        try:
            self._known = _read(self._path, self._endpoint)
        except FileNotFoundError:
            self._known = {}
        except OSError:
            self._counters["state_unsaved"] += 1

    def keep(self, namespaces: Sequence[str]) -> None:
        """Note the indices that are met for the first time."""
        fresh = {n: namespaces[n] for n in self._indices if n not in self._known and n < len(namespaces)}
        if not fresh and not self._behind:
            return
        self._known |= fresh
        try:
            replace_file(self._path, _body(self._endpoint, self._known))
            self._behind = False
        except OSError:
            self._behind = True
            self._counters["state_unsaved"] += 1

    def moved(self, namespaces: Sequence[str]) -> frozenset[int]:
        """The indices at which another namespace stands than the first time."""
        return frozenset(n for n in self._known_of_ours() if n < len(namespaces) and namespaces[n] != self._known[n])

    def absent(self, namespaces: Sequence[str]) -> frozenset[int]:
        """The indices at which nothing stands now: a server may register its namespaces only after it is up."""
        return frozenset(n for n in self._known_of_ours() if n >= len(namespaces))

    def doubt(self, namespaces: Sequence[str]) -> str:
        """What moved and what to do, for people; empty where nothing did."""
        told = [f"ns={n} was {self._known[n]} and is {namespaces[n]}" for n in sorted(self.moved(namespaces))]
        if not told:
            return ""
        return (
            f"{', '.join(told)}: addresses by these indices are refused; write them with nsu=, or, if they mean the "
            f"right nodes, remove {self._path} and start again"
        )

    def fact(self, namespaces: Sequence[str]) -> str:
        """What is not as it was, for people."""
        absent = [f"ns={n} was {self._known[n]} and is not there" for n in sorted(self.absent(namespaces))]
        waited = f"{', '.join(absent)}: addresses by these indices are looked for again" if absent else ""
        return "; ".join(filter(None, (self.doubt(namespaces), waited))) or "as before"

    def _known_of_ours(self) -> list[int]:
        return [n for n in self._indices if n in self._known]


def _read(path: Path, endpoint: str) -> dict[int, str]:
    """What the file holds for this endpoint. Raises OSError."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION or content["endpoint"] != endpoint:
            return {}
        return {int(index): str(uri) for index, uri in content["indices"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{path} is damaged") from error


def _body(endpoint: str, known: Mapping[int, str]) -> str:
    return json.dumps({"version": _VERSION, "endpoint": endpoint, "indices": known})
