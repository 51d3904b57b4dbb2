"""
``python -m bench [--seconds N] [--tags N] [--period S]``: run the benchmarks end to end and print their tables.

``python -m bench opcua`` runs those of the OPC UA path (bench/opcua_decode.py).
"""

from __future__ import annotations

import argparse
import sys

from bench import opcua_decode
from bench.e2e import PROTOCOLS, run


def main() -> int:
    if sys.argv[1:2] == ["opcua"]:
        opcua_decode.main(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of each protocol (default 10)")
    parser.add_argument("--tags", type=int, default=1000, help="tags of each protocol (default 1000)")
    parser.add_argument("--period", type=float, default=0.2, help="seconds between two values of a tag (default 0.2)")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="only this one (may be repeated)")
    arguments = parser.parse_args()
    run(arguments.protocol or list(PROTOCOLS), arguments.tags, arguments.period, arguments.seconds)
    return 0


sys.exit(main())
