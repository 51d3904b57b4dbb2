"""
``make fuzz``: coverage-guided fuzzing of every target with atheris, one process a target.

``python -m tests.fuzz [TARGET ...]``; ``FUZZ_SECONDS`` (default 60) is the time of each. Ends with 1 on a finding,
whose input libFuzzer leaves in the current folder.
"""

from __future__ import annotations

import os
import subprocess
import sys

SECONDS = os.environ.get("FUZZ_SECONDS", "60")


def fuzz(name: str) -> None:
    """Fuzz one target in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=["adapters", "broker", "llm", "normalizers", "schemas"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=10"], TARGETS[name])
    atheris.Fuzz()


def main(names: list[str]) -> int:
    """Run each target, print its last line, and return 1 where one found something."""
    from tests.fuzz.targets import TARGETS

    found = 0
    for name in names or list(TARGETS):
        command = [sys.executable, "-m", "tests.fuzz", "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip().splitlines()
        runs = next((line for line in reversed(said) if line.startswith("Done ")), said[-1] if said else "")
        print(f"{name:<24} {'FOUND SOMETHING' if done.returncode else 'ok':<16} {runs}", flush=True)
        if done.returncode:
            found = 1
            print("\n".join(said[-25:]), flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2])
    raise SystemExit(main(sys.argv[1:]))
