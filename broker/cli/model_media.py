"""``fairlead model key``, ``pack`` and ``trust``: who makes media, and whose media a site accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import Refused

trust = typer.Typer(no_args_is_help=True, help="Keys whose media this site accepts.")
PassphraseOption = Annotated[
    str, typer.Option(help="Reference of the key's passphrase: env:NAME, or file:NAME (mode 0600).")
]


def key(
    out: Annotated[Path, typer.Argument(help="File of the signing key, new; the public key is written beside it.")],
    passphrase: PassphraseOption = "",
) -> None:
    """Make an Ed25519 key pair to sign media with; the file FILE.pub goes to the sites."""
    from broker.models.keys import generate

    public, fingerprint = generate(out, _passphrase(passphrase))
    typer.echo(f"{out}: keep it secret, away from the plant")
    typer.echo(f"{public}: give it to the sites, and tell them its fingerprint another way:")
    typer.echo(f"sha256:{fingerprint}")


def pack(
    folder: Annotated[
        Path, typer.Argument(help="Folder with the files of the model; model.json and model.sig go there.")
    ],
    key: Annotated[Path, typer.Option(help="The signing key.")],
    name: Annotated[str, typer.Option(help="Small letters, digits and . _ -")],
    version: Annotated[int, typer.Option(help="Above that of every medium of this name before.")],
    what: Annotated[str, typer.Option(help="One sentence for whoever chooses.")],
    licence: Annotated[str, typer.Option(help="SPDX identifier, or the licence's name.")],
    licence_file: Annotated[list[str], typer.Option(help="File with its text, inside FOLDER; may be repeated.")],
    origin: Annotated[str, typer.Option(help="Who trained it, from what, who converted it.")],
    rung: Annotated[str, typer.Option(help="mistral, or open_weights.")],
    weights: Annotated[str, typer.Option(help="The GGUF file, inside FOLDER; none for an adapter's medium.")] = "",
    adapter: Annotated[list[str] | None, typer.Option(help="A LoRA adapter (GGUF), inside FOLDER.")] = None,
    base_sha256: Annotated[str, typer.Option(help="Adapter's medium: hash of the weights it was made for.")] = "",
    style: Annotated[str, typer.Option(help="instruct, or rows for a model like the built-in one.")] = "instruct",
    family: Annotated[str, typer.Option(help="Prompt format: auto, v3, v3-tekken or v7.")] = "auto",
    knows: Annotated[Path | None, typer.Option(help="JSON: causes by equipment class it was trained on.")] = None,
    calibration: Annotated[float, typer.Option(help="Temperature at which its probabilities are right.")] = 1.0,
    passphrase: PassphraseOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Hash every file of a folder, write the manifest and sign it: the folder is then a medium."""
    from pydantic import ValidationError

    from broker.models.keys import load_private
    from broker.models.media import describe, seal
    from schemas.manifest import Manifest

    private = load_private(key, _passphrase(passphrase))
    roles = dict.fromkeys(licence_file, "licence") | dict.fromkeys(adapter or (), "adapter")
    if weights:
        roles[weights] = "weights"
    told = {
        "name": name,
        "version": version,
        "what": what,
        "licence": licence,
        "origin": origin,
        "rung": rung,
        "style": style,
        "family": family,
        "knows": None if knows is None else _json(knows),
        "calibration": calibration,
        "base_sha256": base_sha256.lower() or None,
        "files": describe(folder, roles),
    }
    try:
        manifest = Manifest.model_validate(told)
    except ValidationError as error:
        problems = ("".join((*_place(one["loc"]), one["msg"].removeprefix("Value error, "))) for one in error.errors())
        raise Refused("this is no model: " + "; ".join(problems)) from None
    seal(folder, manifest, private)
    if output is Output.JSON:
        print_json({"manifest_sha256": manifest.sha256, **manifest.model_dump(mode="json")})
        return
    for file in manifest.files:
        typer.echo(f"{file.path} ({file.role}, {file.size} bytes) {file.sha256}")
    typer.echo(f"{name}@{version} is packed and signed: {folder}")


def _place(loc: tuple[int | str, ...]) -> list[str]:
    return [".".join(map(str, loc)), ": "] if loc else []


def _json(path: Path) -> Any:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(f"{path} is no JSON: {error}") from None


def _passphrase(reference: str) -> str | None:
    from broker.config.secrets import resolve_secret

    return resolve_secret(reference, Path.cwd()) if reference else None


@trust.command()
def add(
    key: Annotated[Path, typer.Argument(help="The public key, a file that ends in .pub.")],
    fingerprint: Annotated[str, typer.Option(help="As who signs told it you: sha256:… or its first 16 digits.")],
    name: Annotated[str, typer.Option(help="Name of the key here; default: that of the file.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Accept media that were signed with a key, once its fingerprint was compared."""
    from broker.config import load_config
    from broker.models import keys, registry

    settings = load_config(config)
    public = keys.load_public(key)
    _compare(keys.fingerprint(public), fingerprint)
    shown = name or key.name.removesuffix(keys.SUFFIX)
    body = {"name": shown, "pem": keys.pem(public).decode()}
    done: dict[str, Any] | None = ask_core(settings, "POST", "/api/v1/models/keys", body)
    if done is None:
        from broker.cli.store_access import writing

        with writing(settings) as store:

            def note(action: str, subject: str, detail: dict[str, object]) -> None:
                with store.transaction() as transaction:
                    transaction.audit("command line", action, subject, detail)

            done = dict(registry.trust_key(settings, shown, keys.pem(public), note))
    if output is Output.JSON:
        print_json(done)
    else:
        typer.echo(f"media signed by {done['name']} (sha256:{done['fingerprint']}) are accepted")


def _compare(found: str, told: str) -> None:
    wanted = told.lower().removeprefix("sha256:").replace(":", "")
    if len(wanted) < 16 or not found.startswith(wanted):
        raise Refused(f"the key in this file has the fingerprint sha256:{found}, not what you were told")


@trust.command(name="list")
def list_keys(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print the keys that are trusted; to trust one no longer, remove its file from the folder."""
    from broker.config import load_config
    from broker.models.registry import trust_of

    found = trust_of(load_config(config))
    trusted = found.trusted()
    rows = [{"name": key.name, "key_id": key.key_id, "fingerprint": key.fingerprint} for key in trusted]
    rows += [
        {"name": path.name, "key_id": "", "fingerprint": f"not trusted: {why}"} for path, why in found.unreadable()
    ]
    print_rows(output, ("name", "key_id", "fingerprint"), rows, empty=f"no key is trusted; folder: {found.folder}")
