"""
Errors that change what a caller does next.

* FairleadError
  - NotConnected      the runner calls ``connect`` again, with back-off
      + OtherDevice   ... which another device answers than the known one; nothing is read from it
  - EndOfInput        the source has ended; stop this adapter; not a failure
  - ConfigError       never retried; the process exits with code 78
  - JournalError      the journal cannot be written; acknowledgements stop
      + JournalFull   ... because its budget is used up; resumes when space is back
  - StoreError        SQL cannot be written now; the position stays where it is
      + StoreLocked   ... because another process holds the store's lock
      + StoreMissing  ... nor read, because the broker was never started
  - WorkerError       the reasoning worker gave no usable answer; rules are used
      + WorkerTimeout ... within its deadline; the worker is killed
      + AnswerRefused ... because a check of the answer failed; a sampled answer is asked for once more, greedily
  - Refused           a request that the state of things forbids (review, sign-in)

Source: house rule; the tree is closed, so that a caller can handle all of it.
"""

from __future__ import annotations

from dataclasses import dataclass


class FairleadError(Exception):
    """Base of every error raised on purpose."""


class NotConnected(FairleadError):
    """
    The connection is lost, or never was; the runner calls ``connect`` until it is back.

    ``retry_after_s`` overrides the runner's back-off where the peer or the protocol names a time.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OtherDevice(NotConnected):
    """Another device than the known one answers; nothing is read from it until a person accepts it, or it is gone."""


class EndOfInput(FairleadError):
    """The source has no more data and never will have."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong in a file, with its place and what to do.

    ``line`` and ``column`` count from 1; 0 means the whole file. ``code`` is stable and listed in
    docs/configuration.md; ``hint`` may be empty. ``warning`` problems never block.
    """

    file: str
    line: int
    column: int
    path: str
    code: str
    message: str
    hint: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{path}{self.message}{hint} [{self.code}]"


class ConfigError(FairleadError):
    """The configuration cannot work, whatever the network does; carries every problem found."""

    def __init__(self, problems: list[Problem] | str) -> None:
        self.problems = [Problem("", 0, 0, "", "invalid", problems)] if isinstance(problems, str) else problems
        super().__init__("\n".join(p.message if not p.file else str(p) for p in self.problems))


class JournalError(FairleadError):
    """The journal cannot be written; nothing may be acknowledged."""


class JournalFull(JournalError):
    """The journal's budget or the disk is used up; acknowledgements resume when space is back."""


class StoreError(FairleadError):
    """The store cannot be written now; nothing was committed and the position stays."""


class StoreLocked(StoreError):
    """Another process holds the store's writer lock."""


class StoreMissing(StoreError):
    """There is no store yet: the broker was never started with this configuration."""


class WorkerError(FairleadError):
    """The reasoning worker gave no usable answer."""


class WorkerTimeout(WorkerError):
    """The reasoning worker did not answer within its deadline."""


class AnswerRefused(WorkerError):
    """The model's answer is not the form, or a check failed; the message names it."""


class Refused(FairleadError):
    """A request that the state of things forbids; the message is for the person who asked."""
