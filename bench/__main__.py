"""``python -m bench [NAME] …``: run a benchmark and print its table; ``--help`` behind its name explains it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from subprocess import CalledProcessError
from typing import Final

#: What is measured, and the module that does it: its ``main`` takes the arguments behind the name.
BENCHES: Final = {
    "e2e": "bench.e2e",
    "pipeline": "bench.pipeline",
    "modbus": "bench.modbus",
    "modbus-gateway": "bench.modbus_gateway",
    "opcua": "bench.opcua_decode",
    "mqtt": "bench.mqtt",
    "detect": "bench.detect",
    "detect-plant": "bench.detect_plant",
    "detect-demo": "bench.detect_demo",
    "detect-false-alarms": "bench.detect_false_alarms",
    "detect-speed": "bench.detect_speed",
    "detector-pictures": "bench.detector_pictures",
    "multivariate-pictures": "bench.multivariate_pictures",
    "plant-evidence": "bench.plant_evidence",
    "scorecards": "bench.scorecards",
    "week": "bench.week",
    "llm": "bench.llm",
    "llm-beside": "bench.llm_beside",
}

#: What ``make bench`` prints: rates offered, then ratios, medians of three; half an hour on two cores.
ALL: Final = (
    "e2e --runs 3 --seconds 20 --tags 10000 --period 0.1 --protocol modbus --protocol opcua",
    "e2e --runs 3 --seconds 20 --tags 5000 --period 0.1 --protocol mqtt",
    "e2e --runs 3 --seconds 20 --tags 25000 --period 0.1 --protocol modbus --protocol opcua",
    "pipeline --rate 100000",
    "pipeline --rate 250000",
    "modbus --turns 3",
    "opcua",
    "mqtt",
    "modbus-gateway --turns 3",
    "llm",
)


def main() -> int:
    """Run the named benchmark; without a name, all that docs/benchmarks.md shows."""
    name, *rest = sys.argv[1:] or ["all"]
    if name in {"-h", "--help"}:
        print(f"python -m bench [{{{','.join(BENCHES)}}} …]: each explains itself with --help; without a name, all")
        return 0
    if name == "all":
        return max(_one_of_all(*line.split()) for line in ALL)
    if name not in BENCHES:
        name, rest = "e2e", sys.argv[1:]
    return _run(name, rest)


def _one_of_all(name: str, *arguments: str) -> int:
    """Run one; what it lacks (a broker program, a package index) ends it and not the others."""
    print(f"\npython -m bench {name} {' '.join(arguments)}", flush=True)
    try:
        return _run(name, arguments)
    except (SystemExit, OSError, CalledProcessError) as error:
        print(f"not measured: {error}", flush=True)
        return 1


def _run(name: str, arguments: Sequence[str]) -> int:
    run: Callable[[Sequence[str]], int | None] = import_module(BENCHES[name]).main
    return run(arguments) or 0


sys.exit(main())
