"""``make faults``: the long runs, and the table of what they measured in docs/faults.md."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
#: The scenarios, and the peers of other people that run for ten minutes.
PLACES = ("tests/faults", "tests/e2e/test_real_peers.py")
COLUMNS = ("scenario", "load", "lost", "doubled", "wrong", "recovery_s", "control")
HEAD = """# Faults, and what they cost

Written by `make faults`: the scenarios of `tests/faults`, at their full length. *Lost*, *doubled* and *wrong* count
values that were acknowledged or are due by the protocol, in SQL at the end; *recovery* is the time until values flow
again. A negative control is the same run with the guard taken away. A cell without a number is not a figure of that
scenario.

"""


def _place(row: dict[str, object]) -> tuple[int, str]:
    """F2 before F10."""
    number = str(row["scenario"]).split()[0].lstrip("FWS")
    return int(number) if number.isdigit() else 0, str(row["load"])


def main() -> int:
    """Run, write the page, and give pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        rows.touch()
        environment = {**os.environ, "FAIRLEAD_FAULTS": "long", "FAIRLEAD_FAULT_ROWS": str(rows)}
        command = [sys.executable, "-m", "pytest", *PLACES, "--timeout=1800", "-q", *sys.argv[1:]]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        found = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    lines = [f"{datetime.now(UTC):%Y-%m-%d}, {machine}, pytest exit code {code}.", ""]
    lines += [f"| {' | '.join(COLUMNS).replace('_s', ', s')} |", "|" + "---|" * len(COLUMNS)]
    for row in sorted(
        found, key=lambda r: (int("0" + "".join(filter(str.isdigit, r["scenario"].split()[0]))), r["load"])
    ):
        lines.append("| " + " | ".join("" if row[c] is None else str(row[c]) for c in COLUMNS) + " |")
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
