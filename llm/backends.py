"""Where answers come from: a model file in the worker, or a model server on the site. What differs between the two."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, Protocol

from llm.egress import Resolve, endpoint, pinned, resolve
from llm.messages import Connect, Ready, Reply, Setup
from llm.model_file import ModelFile, Served
from llm.options import ReasonerOptions
from llm.prompt import PROMPT_VERSION, Style
from schemas.annotation import Provenance, model_key, served_key
from schemas.errors import WorkerError
from schemas.evidence import Evidence

#: Name and version of the decoder, in front of the library's.
DECODER: Final = "fairlead-decoder/1"
_CONTEXT: Final = 4096
_SERVER_SLOTS: Final = 4
_MAX_CA: Final = 256 << 10
#: RFC 9110 allows a space within a header's value; in a key it is the mistake of whoever wrote the file.
_KEY: Final = re.compile(r"[\x21-\x7e]*")


class Unusable(WorkerError):
    """An option of a model server can never work; ``step`` is the one of :data:`llm.exchange.Step` it would fail."""

    def __init__(self, message: str, step: Literal["TLS", "key"]) -> None:
        super().__init__(message)
        self.step = step


def _family(file: ModelFile, options: ReasonerOptions) -> str:
    """What the configuration names, else what the model's manifest does."""
    if file.style != "instruct":
        return "v3-tekken"
    return file.family if options.family == "auto" else options.family


def setup_of(file: ModelFile, options: ReasonerOptions) -> Setup:
    """What a worker is told of its model."""
    return Setup(
        path=str(file.path),
        sha256=file.sha256,
        family=_family(file, options),
        style=file.style,
        threads=options.threads,
        seed=options.seed,
        temperature=options.temperature,
        context=_CONTEXT,
        calibration=file.calibration,
        gpu_layers=options.gpu_layers,
        slots=options.slots or 0,
        adapter=str(file.adapter.path) if file.adapter else "",
        adapter_sha256=file.adapter.sha256 if file.adapter else "",
        adapter_scale=file.adapter.scale if file.adapter else 1.0,
    )


class Backend(Protocol):
    """One source of answers."""

    module: str
    name: str
    style: Style
    #: Whether the same question may be answered otherwise the second time.
    varies: bool

    async def setup(self) -> Setup | Connect:
        """
        First frame to the process.

        Raises:
            WorkerError: it can never work as configured.
            OSError: it cannot work now.
        """
        ...

    def refuses(self, evidence: Evidence) -> str:
        """Why this model is not asked about some evidence; empty where it is."""
        ...

    def shown(self, evidence: Evidence) -> Evidence:
        """The evidence as this model sees it."""
        ...

    def key(self, ready: Ready | None) -> str:
        """What its answers go by, see :func:`schemas.annotation.model_key`; empty where that is not known (yet)."""
        ...

    def known(self, ready: Ready, reply: Reply, queue_ms: float) -> Provenance:
        """What is known of an answer's provenance beside the answer itself."""
        ...


class LocalModel:
    """A model file, loaded by the worker without network."""

    module = "llm.worker"

    def __init__(self, options: ReasonerOptions, file: ModelFile) -> None:
        self._options = options
        self._file = file
        self.name = self._file.name
        self.style: Style = self._file.style
        self.varies = options.temperature > 0  # the second time the best tokens are taken

    async def setup(self) -> Setup:
        """See :class:`Backend`."""
        return setup_of(self._file, self._options)

    def refuses(self, evidence: Evidence) -> str:
        """See :class:`Backend`."""
        return self._file.refuses(evidence)

    def shown(self, evidence: Evidence) -> Evidence:
        """See :meth:`llm.model_file.ModelFile.shown`."""
        return self._file.shown(evidence)

    def key(self, ready: Ready | None) -> str:
        """See :class:`Backend`; before a worker is ready, by the hashes that the site names."""
        adapter = self._file.adapter
        sha256 = ready.sha256 if ready else self._file.sha256
        adapter_sha256 = ready.adapter_sha256 if ready else adapter.sha256 if adapter else ""
        known = sha256 and bool(adapter) is bool(adapter_sha256)
        return model_key(sha256, adapter_sha256, adapter.scale if adapter else None) if known else ""

    def known(self, ready: Ready, reply: Reply, queue_ms: float) -> Provenance:
        """See :class:`Backend`."""
        del reply
        return Provenance(
            engine=f"{DECODER} {ready.engine}",
            prompt_version=PROMPT_VERSION,
            model_name=ready.model_name or self.name,
            model_sha256=ready.sha256,
            model_rung=self._file.rung,
            family=ready.family,
            style=self.style,
            seed=self._options.seed,
            temperature=self._options.temperature,
            threads=self._options.threads,
            context=_CONTEXT,
            slots=ready.slots,
            sandbox=dict(ready.sandbox),
            probabilities="decoder",
            calibration=self._file.calibration,
            queue_ms=queue_ms,
            adapter_name=self._file.adapter.name if self._file.adapter else "",
            adapter_sha256=ready.adapter_sha256,
            adapter_scale=self._file.adapter.scale if self._file.adapter else None,
        )


class ModelServer:
    """
    A server of the site behind the egress guard.

    Args:
        options: with ``url``.
        base_dir: folder of the configuration, for ``ca``.
        api_key: the key itself.
        lookup: resolver; asked until it answers once, and never again.
        rung: step of the ladder that it was chosen on.

    Raises:
        Unusable: ``ca`` cannot be read, or no header can hold the key. No message contains the key.
    """

    module = "llm.remote"
    style: Style = "instruct"
    varies = True  # the reason of the refusal stands in the second message

    def __init__(
        self,
        options: ReasonerOptions,
        base_dir: Path,
        api_key: str,
        lookup: Resolve = resolve,
        rung: str = "site_server",
    ) -> None:
        if not _KEY.fullmatch(api_key):
            raise Unusable(
                "llm.api_key holds a space, a line end, a control character or one outside ASCII, which no key has;"
                " look at its end",
                "key",
            )
        self._options = options
        self._rung = rung
        self._api_key = api_key
        self._lookup = lookup
        self._where = endpoint(options.url or "")
        self._address = ""
        self.name = options.model
        self._ca = _pem(base_dir / options.ca) if options.ca else ""

    async def setup(self) -> Connect:
        """See :class:`Backend`. The address is pinned at the first success, for as long as this object lives."""
        if not self._address:
            self._address = await pinned(self._where, self._lookup)
        options = self._options
        return Connect(
            url=options.url or "",
            address=self._address,
            model=options.model,
            api_key=self._api_key,
            ca=self._ca,
            seed=options.seed,
            temperature=options.temperature,
            slots=options.slots or _SERVER_SLOTS,
        )

    def refuses(self, evidence: Evidence) -> str:
        """See :class:`Backend`; a full model reads the catalogue itself."""
        del evidence
        return ""

    def shown(self, evidence: Evidence) -> Evidence:
        """See :class:`Backend`; nothing is left out."""
        return evidence

    def key(self, ready: Ready | None) -> str:
        """See :class:`Backend`; of a server that has answered."""
        return served_key(self._where.authority, self.name) if ready else ""

    def known(self, ready: Ready, reply: Reply, queue_ms: float) -> Provenance:
        """
        See :class:`Backend`. The file behind a served name is not known here, so there is no hash.

        The model is called as configured, because figures and decisions belong to that name; a server that calls it
        otherwise in its answers is told of in ``engine``.
        """
        itself = "" if reply.model_name in ("", ready.model_name) else f", as {reply.model_name}"
        given = any(share is not None for share in reply.probabilities)
        return Provenance(
            engine=f"{ready.engine}{itself}",
            prompt_version=PROMPT_VERSION,
            model_name=self.name,
            model_rung=self._rung,
            style=self.style,
            seed=self._options.seed,
            temperature=self._options.temperature,
            slots=ready.slots,
            sandbox=dict(ready.sandbox),
            endpoint=f"{self._where.authority} at {self._address}",
            probabilities="logprobs" if given else "absent",
            queue_ms=queue_ms,
        )


def _pem(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_CA + 1)
        text = raw.decode("ascii")
    except (OSError, ValueError) as error:
        raise Unusable(
            f"llm.ca: {path.name} cannot be read: {getattr(error, 'strerror', None) or 'no PEM'}", "TLS"
        ) from error
    if len(raw) > _MAX_CA or "BEGIN CERTIFICATE" not in text:
        raise Unusable(f"llm.ca: {path.name} holds no certificate in PEM form", "TLS")
    return text


def backend_of(
    options: ReasonerOptions, found: ModelFile | Served, base_dir: Path, api_key: str, lookup: Resolve = resolve
) -> Backend:
    """The configured source of answers. Raises WorkerError where it can never work."""
    if isinstance(found, Served):
        return ModelServer(options, base_dir, api_key, lookup, found.rung)
    return LocalModel(options, found)
