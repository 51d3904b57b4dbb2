"""
``make faults``: the long runs, and the table of what they measured in docs/faults.md.

``python -m tests.faults -k f17 tests/faults`` runs some of them at their full length and prints their rows.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Scenarios of the whole broker, with its processes.
WHOLE = ("kill", "reasoning_faults", "api_load", "real_peers")
PAGE = ROOT / "docs" / "faults.md"
#: The scenarios, and the peers of other people that run for ten minutes.
PLACES = ("tests/faults", *(f"tests/e2e/test_{name}.py" for name in WHOLE))
COLUMNS = ("scenario", "load", "lost", "doubled", "wrong", "recovery_s", "control")
HEAD = """# Faults, and what they cost

Written by `make faults`: the scenarios of `tests/faults`, at their full length. *Lost*, *doubled* and *wrong* count
values that were acknowledged or are due by the protocol, in SQL at the end; *recovery* is the time until values flow
again, without the time in which the whole process could not run (`tests/patient_loop.py`). A negative control is the
same run with the guard taken away. A cell without a number is not a figure of that scenario.

"""


def _place(row: dict[str, Any]) -> tuple[str, int, bool, str, str]:
    """F2 before F10, rows of one scenario beside each other, its control behind them."""
    scenario = str(row["scenario"])
    number = int("0" + "".join(filter(str.isdigit, scenario.split()[0])))
    return scenario[0], number, "control" in scenario, scenario, str(row["load"])


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    head = [f"| {' | '.join(COLUMNS).replace('_s', ', s')} |", "|" + "---|" * len(COLUMNS)]
    body = [
        "| " + " | ".join("" if row[column] is None else str(row[column]) for column in COLUMNS) + " |"
        for row in sorted(rows, key=_place)
    ]
    return head + body


def main(arguments: list[str]) -> int:
    """Run, write the page, and give pytest's exit code. *arguments* go to pytest; then the page stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        rows.touch()
        environment = {**os.environ, "FAIRLEAD_FAULTS": "long", "FAIRLEAD_FAULT_ROWS": str(rows)}
        command = [sys.executable, "-m", "pytest", "--timeout=1800", "-q", *(arguments or PLACES)]
        begun = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        minutes = (time.monotonic() - begun) / 60
        found = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    lines = [f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {minutes:.0f} minutes, pytest exit code {code}.", ""]
    lines += table(found)
    if not arguments:
        PAGE.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
