"""``data_dir``: whether it is there or can be made, told with the name of the option."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from broker.config.model import Config
from broker.config.yaml_lines import Node, shown_name
from schemas.errors import ConfigError, FairleadError, Problem

_OPTION: Final = "data_dir"
_HINT: Final = "name a folder that the user who runs fairlead may write"
#: A full or failing disk is none of these: it is not the configuration that is wrong then.
_WRONG: Final = {
    errno.ENOENT: "cannot be made: the system makes no folder there",
    errno.ENOTDIR: "cannot be made: a part of it is a file",
    errno.EEXIST: "is a file, not a folder",
    errno.EROFS: "cannot be made: the file system is read-only",
    errno.EACCES: "cannot be made: this user may not write there",
    errno.EPERM: "cannot be made: this user may not write there",
}
_LASTING: Final = {errno.ENOTDIR, errno.EEXIST}


def make_data_dir(config: Config) -> None:
    """
    Make the data folder.

    Raises:
        ConfigError: only another configuration can help.
        FairleadError: there is none now; a mount may come late, or rights be given.
        OSError: the disk fails.
    """
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in _WRONG:
            raise
        if error.errno not in _LASTING:
            raise FairleadError(f"{_OPTION} {config.data_dir} {_WRONG[error.errno]}; {_HINT}") from None
        nowhere = Node(shown_name(config.path), 0, 0, None)
        raise ConfigError([_problem(nowhere, config.data_dir, error.errno)]) from None


def data_dir_problems(config: Config, place: Node) -> list[Problem]:
    """
    What :func:`make_data_dir` would meet, found without making the folder.

    That this user may not write there is a warning: the service may run as another one.
    """
    folder = config.data_dir
    try:
        if not folder.exists():
            above = next(parent for parent in folder.parents if parent.exists())
            if not above.is_dir():
                return [_problem(place, folder, errno.ENOTDIR)]
            _try(above)
        elif not folder.is_dir():
            return [_problem(place, folder, errno.EEXIST)]
        elif not os.access(folder, os.W_OK | os.X_OK):
            message = f"{folder} may not be written by this user"
            return [place.problem(_OPTION, "bad_value", message, "the user who runs fairlead must", warning=True)]
    except OSError as error:
        number = error.errno or 0
        if number in {errno.EACCES, errno.EPERM}:
            return [_problem(place, folder, number, warning=True)]
        return [_problem(place, folder, number)] if number in _WRONG else []
    return []


def _try(above: Path) -> None:
    """Make a folder and remove it: on procfs and the like permissions say yes, and the system says no."""
    with tempfile.TemporaryDirectory(prefix=".fairlead-check-", dir=above):
        pass


def _problem(place: Node, folder: Path, number: int, *, warning: bool = False) -> Problem:
    return place.problem(_OPTION, "bad_value", f"{folder} {_WRONG[number]}", _HINT, warning=warning)
