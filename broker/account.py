"""Who started a process, for the audit."""

from __future__ import annotations

import getpass
import os


def account() -> str:
    """The account that this process runs under, and whom sudo names behind it."""
    try:
        import pwd

        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    except ImportError:  # not POSIX
        name = getpass.getuser()
    behind = os.environ.get("SUDO_USER")
    return f"account {name}" + (f" (sudo by {behind})" if behind and behind != name else "")
