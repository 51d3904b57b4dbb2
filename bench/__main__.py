"""``python -m bench [e2e|mqtt] [--seconds N] [--tags N] [--period S]``: run the benchmarks and print their tables."""

from __future__ import annotations

import argparse
import sys

from bench import mqtt
from bench.e2e import PROTOCOLS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("e2e", "mqtt"), default="e2e", help="end to end, or a part alone")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of each protocol (default 10)")
    parser.add_argument("--tags", type=int, default=1000, help="tags of each protocol (default 1000)")
    parser.add_argument("--period", type=float, default=0.2, help="seconds between two values of a tag (default 0.2)")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="only this one (may be repeated)")
    arguments = parser.parse_args()
    if arguments.what == "mqtt":
        mqtt.run(arguments.seconds)
        return 0
    run(arguments.protocol or list(PROTOCOLS), arguments.tags, arguments.period, arguments.seconds)
    return 0


sys.exit(main())
