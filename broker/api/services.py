"""What the handlers need of the core process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as CommandTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from fastapi import Depends, Request

from broker.api.accounts import Person
from broker.api.status import AcquireStatus, read_status
from broker.core.writer import Writer
from broker.scorecard.standing import StandingOf
from broker.store import Reader, Store, Transaction
from schemas.errors import StoreError

if TYPE_CHECKING:
    from broker.config.model import Config
    from broker.core.detector_watch import DetectorWatch
    from broker.core.model_watch import ModelWatch
    from llm.client import Reasoner

T = TypeVar("T")

#: A request waits so long for the writer thread.
COMMAND_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Services:
    """
    Configuration, store, writer thread, reasoner and what watches it and the detectors in this core.

    ``token`` is the local administrator's; ``standing_of`` tells what a model's answers count for.
    """

    config: Config
    store: Store
    writer: Writer
    reasoner: Reasoner
    token: str
    standing_of: StandingOf
    watch: ModelWatch | None = None
    detectors: DetectorWatch | None = None

    def acquire_status(self) -> AcquireStatus | None:
        """What acquire says of itself; None when it does not run."""
        return read_status(self.config.data_dir, time.time_ns())

    def derived_work_waits(self) -> bool:
        """Whether the journal fills so far that nothing may compete with its reading (step ``derived``)."""
        status = self.acquire_status()
        return status is not None and "derived" in status.journal.steps

    def write(self, command: Callable[[Transaction], T]) -> T:
        """
        Run a command on the writer thread and wait for it.

        Raises:
            Refused, StoreError: what the command raised, or that the writer did not come to it in time.
        """
        future = self.writer.submit(command)
        try:
            return future.result(COMMAND_S)
        except CommandTimeout:
            future.cancel()
            raise StoreError("the writer is busy; try again") from None


def _services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


def _reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


def _person(request: Request) -> Person:
    person: Person = request.state.person
    return person


ServicesOf = Annotated[Services, Depends(_services)]
ReaderOf = Annotated[Reader, Depends(_reader)]
PersonOf = Annotated[Person, Depends(_person)]
