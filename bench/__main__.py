"""``python -m bench [e2e|pipeline] …``: run a benchmark and print its table; ``--help`` behind its name explains it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import bench.e2e
import bench.pipeline

BENCHES: dict[str, Callable[[Sequence[str]], int]] = {
    "e2e": bench.e2e.main,
    "pipeline": bench.pipeline.main,
}


def main() -> int:
    """Run the named benchmark; without a name, end to end."""
    name, *rest = sys.argv[1:] or ["e2e"]
    if name in BENCHES:
        return BENCHES[name](rest)
    if name in {"-h", "--help"}:
        print(f"python -m bench {{{','.join(BENCHES)}}} …: each explains itself with --help; without a name, e2e")
        return 0
    return bench.e2e.main(sys.argv[1:])


sys.exit(main())
