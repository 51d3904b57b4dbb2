"""
The journal: append-only segments on disk, the only thing that stands between acquire and core.

``JournalWriter`` is acquire's, ``JournalFiles`` core's. What is on disk, and why: ``frame`` (bytes), ``mark`` (what is
durable), ``recovery`` (what a start makes of a directory), ``log`` (commit, new segments, retention).
"""

from broker.journal.options import JournalOptions
from broker.journal.reader import JournalFiles
from broker.journal.recovery import Opened
from broker.journal.writer import JournalWriter

__all__ = ["JournalFiles", "JournalOptions", "JournalWriter", "Opened"]
