"""The broker's real processes on a site of a test's own, to be killed at will."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import until


class Broker:
    """Configuration, folder and child processes of one broker; ``stop`` ends what still runs."""

    def __init__(
        self,
        home: Path,
        sources: Mapping[str, Mapping[str, Any]],
        tags: Sequence[Mapping[str, Any]],
        *,
        port: int,
        equipment: Sequence[Mapping[str, Any]] = (),
        **sections: Any,
    ) -> None:
        self.home = home
        self.config = home / "fairlead.yaml"
        site = {
            "version": 1,
            "site": {"path": "Acme/Lyon"},
            "sources": dict(sources),
            "api": {"listen": f"127.0.0.1:{port}"},
            "llm": {"backend": "none"},
            **sections,
        }
        # JSON is YAML
        self.config.write_text(json.dumps(site), "utf-8")
        (home / "maps").mkdir()
        body = {"version": 1, "equipment": list(equipment), "tags": list(tags)}
        (home / "maps" / "test.yaml").write_text(json.dumps(body), "utf-8")
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._log = (home / "log").open("wb")

    def start(self, *names: str) -> None:
        """Start ``acquire``, ``core`` or ``run`` as a process."""
        for name in names:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "broker", name, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={k: v for k, v in os.environ.items() if k != "FAIRLEAD_SUPERVISED"},
            )

    def kill(self, name: str) -> None:
        """SIGKILL, as a power cut would."""
        process = self._running.pop(name)
        process.kill()
        process.wait(120)

    def end(self, name: str) -> int:
        """SIGTERM and the exit code."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(120)

    def stop(self) -> None:
        """End everything that still runs."""
        for name in list(self._running):
            if self._running[name].poll() is None:
                self.end(name)
        self._log.close()

    def alive(self, name: str) -> bool:
        """Whether the process runs."""
        return name in self._running and self._running[name].poll() is None

    def pid(self, name: str) -> int:
        """Process id of what was started under this name."""
        return self._running[name].pid

    def log(self) -> str:
        """What the processes have said."""
        return (self.home / "log").read_text("utf-8", "replace")

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a SELECT; empty while there is no store yet."""
        database = self.home / "var" / "store.db"
        if not database.exists():
            return []
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)
        try:
            return connection.execute(query, parameters).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

    def source(self, name: str) -> dict[str, Any]:
        """What acquire last wrote of a source; empty while it has not."""
        try:
            status = json.loads((self.home / "var" / "acquire.json").read_bytes())
        except (OSError, ValueError):
            return {}
        found: dict[str, Any] = status["sources"].get(name, {})
        return found

    def answer(self, path: str) -> httpx.Response | None:
        """Answer to a GET with the token that core gives to programs of this machine; None while core is not there."""
        try:
            access = json.loads((self.home / "var" / "core.json").read_bytes())
            return httpx.get(access["url"] + path, headers={"Authorization": f"Bearer {access['token']}"}, timeout=60)
        except (OSError, ValueError, httpx.TransportError):
            return None

    def get(self, path: str, within_s: float = 60.0) -> Any:
        """JSON of :meth:`answer`, which is waited for: core stores records before its API listens."""
        found: list[httpx.Response] = []

        def answered() -> bool:
            found.extend(one for one in [self.answer(path)] if one is not None)
            return bool(found)

        until(answered, within_s, f"an answer of core to {path}")
        return found[0].json()

    def count(self, query: str = "SELECT count(*) FROM records", *parameters: object) -> int:
        """First number of a SELECT; 0 while there is none."""
        rows = self.rows(query, *parameters)
        return int(rows[0][0] or 0) if rows else 0
