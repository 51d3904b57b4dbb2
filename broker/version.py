"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

try:
    VERSION: Final = version("fairlead")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0+checkout"  # type: ignore[misc]
