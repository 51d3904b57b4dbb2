"""
Detection on the labelled sets SKAB, NAB and Tennessee Eastman: the product's stages, scored by the sets' scorers.

Each set has one fixed configuration (bench/detect_sets.py), every row is judged before the next one is fed, and of a
SKAB file nothing but its first 400 rows can be learned from. Every figure of a row "Fairlead" is what a scorer printed;
the rows below it are the baselines on the same files and the published results of whole sets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench import detect_nab, detect_sets
from bench.detect_known import NAB_KNOWN, SKAB_KNOWN, TEP_KNOWN
from detectors.detection import DetectionOptions

#: Other budgets of false alarms beside the configuration's own.
_SKAB_BUDGETS: Final = ("10 per equipment per day", "0.001 per equipment per week")
_TEP_BUDGETS: Final = ("1 per equipment per week",)


class NoScorer(Exception):
    """A scorer cannot be run, or refused what it was given."""


class Scorers:
    """The scorers of the shared folder, each in a process of its own."""

    def __init__(self, shared: Path, python: str, folder: Path) -> None:
        self.shared, self._python, self._folder = shared, python, folder

    def score(self, name: str, predictions: Path) -> dict[str, Any]:
        """What ``<name>_score.py`` printed, as JSON. Raises NoScorer."""
        script = self.shared / "bench" / f"{name}_score.py"
        data = self.shared / "data" / name
        command = [self._python, str(script), "--data", str(data), "--pred", str(predictions)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise NoScorer(
                f"{script.name}: {last}; it needs pandas: pip install -e '.[bench]', or name --scorer-python"
            )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def skab(self, title: str, options: DetectionOptions, detector: str = "pca") -> list[str]:
        """One row of the table."""
        path = self._folder / "skab.csv"
        header = ("file", "datetime", "anomaly", "changepoint")
        detect_sets.write(path, header, detect_sets.skab(self.shared / "data" / "skab", options, detector))
        said = self.score("skab", path)
        points, change = said["outlier"], said["changepoint"]
        figures = [points["F1"], points["FAR_percent"], points["MAR_percent"], change["NAB"]["standard"]]
        return [title, *map(str, figures), f"{change['missed']} of {change['true_changepoints']}", str(change["false"])]

    def tep(self, title: str, options: DetectionOptions, detector: str = "pca") -> list[str]:
        """One row of the table."""
        path = self._folder / "tep.csv"
        rows = detect_sets.tep(self.shared / "data" / "tep", options, detector)
        detect_sets.write(path, ("file", "row", "anomaly"), rows)
        said = self.score("tep", path)
        faults = " · ".join(f"{v['FDR_percent']} ({v['delay_rows']})" for v in said["faults"].values())
        return [title, str(said["mean_FDR_18_percent"]), str(said["FAR_percent"]), faults]

    def nab(self, title: str, options: DetectionOptions) -> list[str]:
        """One row of the table."""
        folder = self._folder / "nab"
        detect_nab.write(self.shared / "data" / "nab", folder, options)
        said = self.score("nab", folder)
        profiles = said["profiles"].values()
        standard = said["profiles"]["standard"]
        found = f"{standard['windows_found']} of {said['windows']}, {standard['rows_false']} false rows"
        return [title, *(f"{profile['score']:.1f}" for profile in profiles), found]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _skab(scorers: Scorers) -> str:
    rows = [scorers.skab("**Fairlead**, its configuration", detect_sets.SKAB)]
    rows += [
        scorers.skab(f"Fairlead, budget {text}", detect_sets.budget(detect_sets.SKAB, text)) for text in _SKAB_BUDGETS
    ]
    rows.append(scorers.skab("Fairlead, any detector's finding", detect_sets.SKAB, ""))
    header = ("SKAB, 10 files", "F1", "FAR %", "MAR %", "change points, NAB standard", "missed", "false")
    return table(header, [*rows, *SKAB_KNOWN])


def _tep(scorers: Scorers) -> str:
    rows = [scorers.tep("**Fairlead**, its configuration", detect_sets.TEP)]
    rows += [
        scorers.tep(f"Fairlead, budget {text}", detect_sets.budget(detect_sets.TEP, text)) for text in _TEP_BUDGETS
    ]
    header = ("TEP, faults 1 / 4 / 5 / 8 / 13 / 16 / 21", "mean FDR %", "FAR %", "FDR % by fault (delay in rows)")
    return table(header, [*rows, *TEP_KNOWN])


def _nab(scorers: Scorers) -> str:
    rows = [scorers.nab("**Fairlead**, its configuration", detect_nab.NAB)]
    header = ("NAB, 6 files", "standard", "low FP", "low FN", "windows found")
    return table(header, [*rows, *NAB_KNOWN])


_SETS: Final[dict[str, Callable[[Scorers], str]]] = {"skab": _skab, "tep": _tep, "nab": _nab}


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(_SETS), default=list(_SETS), help="default: all")
    beside = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--shared", type=Path, help="folder with data and scorers (default: beside the repository)")
    parser.add_argument("--scorer-python", default=sys.executable, help="a Python that has numpy and pandas")
    arguments = parser.parse_args(argv)
    shared = arguments.shared or Path(os.environ.get("FAIRLEAD_SHARED", beside))
    for name in arguments.sets:
        if not (shared / "bench" / f"{name}_score.py").exists() or not (shared / "data" / name).is_dir():
            print(f"{name}: skipped, {shared} does not hold its scorer and its data")
            continue
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
            try:
                print(_SETS[name](Scorers(shared, arguments.scorer_python, Path(folder))))
            except NoScorer as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 1
        print(f"\n{time.perf_counter() - begun:.0f} s\n", flush=True)
    return 0
