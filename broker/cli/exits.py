"""Exit codes, and the one place where an error becomes a message and a code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from schemas.errors import ConfigError, FairleadError, NotConnected, StoreLocked, StoreMissing

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 69
RETRY_LATER: Final = 75
BAD_CONFIGURATION: Final = 78


def guarded(command: Callable[[], int]) -> int:
    """Run *command* and return its code; errors raised on purpose are printed to stderr, never as a traceback."""
    try:
        return command()
    except ConfigError as error:
        for problem in error.problems:
            _say(str(problem) if problem.file else problem.message)
        return BAD_CONFIGURATION
    except StoreLocked as error:
        _say(f"{error}; try again when the other process has ended")
        return RETRY_LATER
    except StoreMissing as error:
        _say(str(error))
        return RETRY_LATER
    except NotConnected as error:
        _say(str(error))
        return UNREACHABLE
    except FairleadError as error:
        _say(str(error) or type(error).__name__)
        return FAILED
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _say(f"{name}{error.strerror or error}")
        return FAILED


def _say(text: str) -> None:
    print(f"fairlead: {text}", file=sys.stderr)
