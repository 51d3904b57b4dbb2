"""``python -m broker`` and the command ``fairlead``."""

from __future__ import annotations

import os
import sys

from broker.isolation import conflicts


def main() -> None:
    """Refuse a mixed environment, then run the command line; ends the process with its code."""
    found = conflicts()
    if found:
        for sentence in found:
            print(f"fairlead: {sentence}", file=sys.stderr)
        print("fairlead: install Fairlead into an environment of its own", file=sys.stderr)
        sys.exit(78)
    # store, journal and keys are for this account alone; whoever else shall read gets it from the administrator
    os.umask(0o077)
    from broker.cli.app import run  # after the check: a foreign package must not be imported

    sys.exit(run())


if __name__ == "__main__":
    main()
