"""``fairlead trust``: the certificates and devices that an OPC UA source accepts, and our own certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import Refused

if TYPE_CHECKING:
    from adapters.opcua.config import OpcUaOptions
    from adapters.opcua.pki import Entry, Pki
    from broker.config import Config

app = typer.Typer(no_args_is_help=True, help="Certificates and devices of OPC UA servers, and our own certificate.")
SourceArgument = Annotated[str, typer.Argument(help="Name of a source of kind opcua.")]
FingerprintArgument = Annotated[str, typer.Argument(help="SHA-256 of the certificate in hex, or how it begins.")]
Note = Callable[[str, str, dict[str, object]], None]
_COLUMNS = ("folder", "name", "fingerprint", "valid_until", "application_uri", "verdict")


@app.command(name="list")
def list_certificates(
    source: SourceArgument, config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE
) -> None:
    """Print the certificates that are trusted, rejected and kept as issuers, and what we make of each."""
    _, options, pki = _open(config, source)
    rows = [_row(entry, pki, options) for entry in pki.entries()]
    rows += [
        {"folder": path.parent.name, "name": path.name, "verdict": "cannot be read; remove it"}
        for path in pki.unreadable()
    ]
    print_rows(output, _COLUMNS, rows, empty=f"no certificate is known to {source}; fairlead check --connect asks it")


def _deciding(decision: str, text: str) -> None:
    """Add the command that takes this decision on a certificate."""

    @app.command(name=decision, help=text)
    def decide(
        source: SourceArgument,
        fingerprint: FingerprintArgument,
        config: ConfigOption = DEFAULT_CONFIG,
        output: OutputOption = Output.TABLE,
    ) -> None:
        _decide(source, fingerprint, decision, config, output)


_deciding("accept", "Trust a rejected certificate; compare its fingerprint at the server first.")
_deciding("reject", "Trust a certificate no longer; open connections stay until they are made anew.")


@app.command()
def own(
    source: SourceArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    export: Annotated[
        Path | None, typer.Option(help="Write it here for the server: PEM where the name ends in .pem, else DER.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print our own certificate, which the server must trust; it is made where there is none."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from adapters.opcua.own_certificate import uris
    from adapters.opcua.pki import fingerprint

    _, options, pki = _open(config, source)
    files = pki.own_certificate(options.uri(source), time.time_ns())
    for remark in files.remarks:
        typer.echo(remark, err=True)
    certificate = files.load()
    if export is not None:
        form = Encoding.PEM if export.suffix.lower() == ".pem" else Encoding.DER
        export.write_bytes(certificate.public_bytes(form))
    shown = {
        "subject": certificate.subject.rfc4514_string(),
        "application_uri": ", ".join(uris(certificate)),
        "fingerprint": f"sha256:{fingerprint(certificate)}",
        "valid_until": _day(certificate.not_valid_after_utc),
        "file": str(files.certificate),
        "exported": None if export is None else str(export),
    }
    if output is Output.JSON:
        print_json(shown)
    else:
        print_rows(output, ("what", "value"), [{"what": key, "value": value} for key, value in shown.items() if value])


@app.command()
def device(
    source: SourceArgument,
    accept: Annotated[bool, typer.Option("--accept", help="Read from the other device from now on.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Print which device is known behind the address, and the other one that was met and is not read.

    The broker asks at each connect; nothing is asked here. Who accepts should know why the device is another one.
    """
    from broker.api.trust import device_of, replace_device

    settings, _, _ = _open(config, source)
    kept = device_of(settings, source)
    if not accept:
        rows = [{"what": "known", "device": str(kept.known)}] if kept.known is not None else []
        rows += [{"what": "firmware", "device": kept.firmware}] if kept.firmware else []
        rows += [{"what": "met, not read", "device": str(kept.met)}] if kept.met is not None else []
        print_rows(output, ("what", "device"), rows, empty=f"{source} was not connected yet")
        return
    if kept.met is None:
        raise Refused(f"{source} has met no other device than the known one")
    shown = str(kept.met)
    done = ask_core(settings, "POST", f"/api/v1/sources/{source}/device", {"device": shown})
    if done is None:
        done = _noted(settings, lambda note: replace_device(settings, source, shown, note))
    if output is Output.JSON:
        print_json(done)
    else:
        typer.echo(f"{source} is read from: {done['device']} (before: {done['before']})")


def _open(config: Path, source: str) -> tuple[Config, OpcUaOptions, Pki]:
    from broker.api.trust import pki_of
    from broker.config import load_config

    settings = load_config(config)
    try:
        pki = pki_of(settings, source)
    except Refused as error:
        raise typer.BadParameter(str(error), param_hint="SOURCE") from None
    return settings, cast("OpcUaOptions", settings.sources[source]), pki


def _decide(source: str, fingerprint: str, decision: str, config: Path, output: Output) -> None:
    """Through the running core if there is one, else with the store's lock: the audit chain always knows."""
    from broker.api.trust import carry_out

    settings, _, _ = _open(config, source)
    body = {"fingerprint": fingerprint, "decision": decision}
    done = ask_core(settings, "POST", f"/api/v1/sources/{source}/trust", body)
    if done is None:
        done = _noted(settings, lambda note: carry_out(settings, source, decision, fingerprint, note))
    if output is Output.JSON:
        print_json(done)
    else:
        typer.echo(f"{source}: {done['subject']} ({done['fingerprint']}) is now {done['folder']}")


def _noted(settings: Config, act: Callable[[Note], dict[str, str]]) -> dict[str, Any]:
    """Do what *act* does with the store's lock; it gets what writes into the audit chain."""
    from broker.cli.store_access import writing

    with writing(settings) as store:

        def note(action: str, name: str, detail: dict[str, object]) -> None:
            with store.transaction() as transaction:
                transaction.audit("command line", action, name, detail)

        return dict(act(note))


def _row(entry: Entry, pki: Pki, options: OpcUaOptions) -> dict[str, Any]:
    from adapters.opcua import trust
    from adapters.opcua.own_certificate import uris
    from adapters.opcua.pki import common_name

    peer = trust.Peer(options.host, pin=options.pin.removeprefix("sha256:"))
    if trust.is_authority(entry.certificate):
        verdict = {"trusted": "authority: servers it issued are accepted", "issuers": "authority"}.get(entry.folder, "")
    else:
        try:
            verdict = "; ".join(["accepted", *trust.judge([entry.certificate], pki.lists(), peer, datetime.now(UTC))])
        except trust.Distrust as refusal:
            verdict = str(refusal)
    return {
        "folder": entry.folder,
        "name": common_name(entry.certificate),
        "fingerprint": entry.fingerprint,
        "valid_until": _day(entry.certificate.not_valid_after_utc),
        "application_uri": ", ".join(uris(entry.certificate)),
        "verdict": verdict,
    }


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
