"""
What an adapter is: three verbs, one options class, no loop, no retry, no log and no clock of its own.

``broker/acquire/runner.py`` owns the loop that connects, reads, backs off and reconnects. docs/adapter-spec.md lists
the rules; each names its test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from adapters.insecure import Insecure
from schemas.quantities import Duration
from schemas.samples import Delivery, Gap, GapCause
from schemas.tagmap import Tag

#: UTC nanoseconds since 1970.
Clock = Callable[[], int]


class Options(BaseModel):
    """Base of every options class: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Backoff(Options):
    """Waiting times between two attempts to connect; they double from first to max."""

    first: Annotated[Duration, Field(description="First waiting time.")] = 1.0
    max: Annotated[Duration, Field(description="Longest waiting time.")] = 5.0


class SourceOptions(Options):
    """Options of every source. Field descriptions are the reference, the sample file and the error messages."""

    enabled: Annotated[bool, Field(description="false stops the source and writes one gap, cause `disabled`.")] = True
    description: Annotated[str, Field(max_length=200, description="Free text for people.")] = ""
    scan: Annotated[Duration, Field(gt=0, description="Poll period; OPC UA: sampling interval.")] = 1.0
    backoff: Annotated[Backoff, Field(description="Waiting times between two attempts to connect.")] = Backoff()
    silence_after: Annotated[
        Duration | None,
        Field(description="Reconnect when nothing at all came for so long; default 3 scans, at least 30s."),
    ] = None
    heartbeat: Annotated[
        Duration | None,
        Field(
            gt=0,
            description="A tag of which nothing was stored for so long gets a row flagged `no_change_confirmed`, where "
            "the source says that it did not change (answers of an OPC UA server) or its values stay inside the "
            "deadband; default: no such rows.",
        ),
    ] = None

    def silence_s(self) -> float:
        """The effective silence limit in seconds."""
        return self.silence_after if self.silence_after is not None else max(30.0, 3 * self.scan)

    def insecure(self) -> Insecure | None:
        """What somebody accepted to be read without protection; None where the protocol has no such choice."""
        return None


@dataclass(frozen=True, slots=True)
class AdapterContext:
    """
    What the broker lends an adapter.

    Attributes:
        name: name of the source.
        tags: the tags this source reads; ``number`` is what goes into a batch.
        map_revision: 16 bytes for :class:`SampleBatch`.
        now_ns: the only clock.
        state_dir: folder of this source that survives restarts (session ids, certificates); exists.
        base_dir: folder of ``fairlead.yaml``; relative file names in options start here.
    """

    name: str
    tags: tuple[Tag, ...]
    map_revision: bytes
    now_ns: Clock
    state_dir: Path
    base_dir: Path = field(default_factory=Path.cwd)

    def gap(
        self,
        cause: GapCause,
        tags: tuple[int, ...],
        from_ns: int,
        to_ns: int | None,
        detail: str,
        *,
        events: bool = False,
    ) -> Gap:
        """A gap of this source; no *tags* means all of them, no end that it is open. Times are UTC ns."""
        return Gap(self.name, tags, from_ns, to_ns, cause, map_revision=self.map_revision, detail=detail, events=events)


#: ``kept``: the peer held everything since ``covered_ns`` and delivers it, nothing is lost. ``lost``: it did not; the
#: adapter returns a Gap or the runner's stands. ``unknown``: the protocol cannot say (polling).
Continuity = Literal["kept", "lost", "unknown"]


class Adapter(Protocol):
    """
    Reads batches from one source.

    The runner calls ``connect`` until it returns, then ``read`` in a loop. No two calls overlap, so implementations
    need no locks. ``__init__`` does no I/O. Growth of any counter is a sign of life (keep-alives must be counted).

    ``covered_ns`` (UTC) is the time up to which everything the source had to say was handed over and settled, kept
    current by keep-alives; None where the protocol cannot say. ``continuity`` is what the last ``connect`` found out.
    ``counters`` only ever grow; the runner publishes them with the source's
    name (``overflow``, ``refused_items``, ``dropped``, …). ``facts`` are texts for the diagnostics page, such as
    requested against revised intervals.
    """

    counters: Counter[str]
    facts: dict[str, str]
    covered_ns: int | None
    continuity: Continuity

    async def connect(self) -> None:
        """
        Open the session, resuming what the peer still holds. Safe to call again after a failure.

        Raises:
            NotConnected: with a text that says which step failed and what to do.
        """
        ...

    async def read(self) -> Delivery | Gap:
        """
        Wait for the next batch. A Bad status is data, not an error.

        Raises:
            NotConnected: the session is gone; ``connect`` is called again.
            EndOfInput: nothing will ever come again.
        """
        ...

    async def close(self) -> None:
        """Release everything. Harmless at any time, also before ``connect`` and when repeated. Never raises."""
        ...


C = TypeVar("C", bound=SourceOptions)


@dataclass(frozen=True, slots=True)
class AdapterSpec(Generic[C]):
    """
    One registered kind.

    ``check_tag(options, tag)`` returns what is wrong with a tag for a source of this kind, or None; ``doubt_tag``,
    which is asked about tags that are right, what may go wrong with it later.
    """

    kind: str
    options: type[C]
    build: Callable[[C, AdapterContext], Adapter]
    check_tag: Callable[[C, Tag], str | None]
    doubt_tag: Callable[[C, Tag], str | None]


REGISTRY: dict[str, AdapterSpec[Any]] = {}


def _anything_goes(options: SourceOptions, tag: Tag) -> str | None:  # noqa: ARG001 - the hook's signature
    return None


def register(
    kind: str,
    options: type[C],
    check_tag: Callable[[C, Tag], str | None] = _anything_goes,
    doubt_tag: Callable[[C, Tag], str | None] = _anything_goes,
) -> Callable[[Callable[[C, AdapterContext], Adapter]], Callable[[C, AdapterContext], Adapter]]:
    """
    Class decorator: make *kind* usable in ``fairlead.yaml``.

    ``check_tag`` is asked about every tag when the map is loaded: it returns the text of an error (wrong address,
    missing type or byte order), or None. ``doubt_tag`` returns that of a warning; tags of a source with the same text
    share one, so that the text names no tag.
    """

    def decorate(build: Callable[[C, AdapterContext], Adapter]) -> Callable[[C, AdapterContext], Adapter]:
        if kind in REGISTRY:
            raise ValueError(f"adapter kind {kind!r} registered twice")
        REGISTRY[kind] = AdapterSpec(kind, options, build, check_tag, doubt_tag)
        return build

    return decorate


def register_later(
    kind: str,
    options: type[C],
    adapter: str,
    check_tag: Callable[[C, Tag], str | None] = _anything_goes,
    doubt_tag: Callable[[C, Tag], str | None] = _anything_goes,
) -> None:
    """
    Like :func:`register`, for the class that *adapter* (``module:Class``) names; it is imported to build the first.

    For adapters with a large library: core and the command line know the options of every kind, and need no more.
    """

    def build(options: C, context: AdapterContext) -> Adapter:
        module, _, name = adapter.partition(":")
        made: Adapter = getattr(import_module(module), name)(options, context)
        return made

    register(kind, options, check_tag, doubt_tag)(build)
