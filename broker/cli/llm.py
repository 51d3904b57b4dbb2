"""``fairlead llm``: the score card of a model, and what the reviews say to one that is to be tuned."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from broker.cli import bench
from broker.cli.output import DEFAULT_CONFIG, ConfigOption
from schemas.errors import Refused

app = typer.Typer(no_args_is_help=True, help="The annotator's model.")
#: Makes the pseudonyms of exported people; stays on the site.
KEY_FILE = "pseudonyms.key"
KEY_BYTES = 32
app.command("bench")(bench.bench)
app.command("card")(bench.show_card)


@app.command("export-dataset")
def export_dataset(
    out: Annotated[Path, typer.Argument(help="File to write, JSON Lines; must not exist.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """
    Write approved and edited annotations as a fine-tuning set (Mistral's JSONL); people by pseudonym.

    The key of the pseudonyms is made once in data_dir and never exported: keep or delete it as the site's rules say.
    """
    from broker.audit.dataset import Dataset
    from broker.cli.store_access import reading

    with reading(config) as (settings, reader):
        dataset = Dataset(reader, _key(settings.data_dir / KEY_FILE))
        try:
            with whole(out, 0o666) as file:
                for line in dataset.lines():
                    file.write(line + "\n")
        except FileExistsError:
            raise Refused(f"{out} exists; name a new file") from None
        except OSError as error:
            raise Refused(f"{out} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{sum(dataset.taken.values())} examples in {out}")
    for reason, count in sorted(dataset.left_out.items()):
        typer.echo(f"left out, {reason}: {count}")


@contextmanager
def whole(path: Path, mode: int) -> Iterator[TextIO]:
    """A new file that is there whole and durable, or not at all. Raises OSError, FileExistsError where one is."""
    if path.exists():
        raise FileExistsError(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        with whole(path, 0o600) as file:
            file.write(key.hex())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise Refused(f"{path} is no key of {KEY_BYTES} bytes; remove it, and other pseudonyms are made")
    return key
