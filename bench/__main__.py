"""``python -m bench [NAME] …``: run a benchmark and print its table; ``--help`` behind its name explains it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

#: What is measured, and the module that does it: its ``main`` takes the arguments behind the name.
BENCHES: Final = {
    "e2e": "bench.e2e",
    "pipeline": "bench.pipeline",
    "modbus": "bench.modbus",
    "modbus-gateway": "bench.modbus_gateway",
    "opcua": "bench.opcua_decode",
    "mqtt": "bench.mqtt",
    "week": "bench.week",
}


def main() -> int:
    """Run the named benchmark; without a name, end to end."""
    name, *rest = sys.argv[1:] or ["e2e"]
    if name in {"-h", "--help"}:
        print(f"python -m bench {{{','.join(BENCHES)}}} …: each explains itself with --help; without a name, e2e")
        return 0
    if name not in BENCHES:
        name, rest = "e2e", sys.argv[1:]
    run: Callable[[Sequence[str]], int | None] = import_module(BENCHES[name]).main
    return run(rest) or 0


sys.exit(main())
