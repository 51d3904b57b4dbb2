"""
Read one file of the site: text, Markdown, PDF, or a maintenance log as CSV or text.

A file comes from anywhere, so it is read in a copy of the process with little memory and time, and what comes out is
bounded text.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from broker.manuals.cutting import paragraphs, passages
from broker.manuals.log import BadLog, csv_entries, text_entries
from broker.manuals.pdf import BadPdf, pdf_passages
from schemas.errors import FairleadError
from schemas.manuals import MAX_OF_FILE, ManualKind, Passage

#: What is imported, by the end of a file's name.
SUFFIXES: Final = (".txt", ".md", ".markdown", ".pdf", ".csv", ".log")
#: Logs by their names alone.
_LOGS: Final = (".csv", ".log")
MAX_TEXT_BYTES: Final = 16 << 20
MAX_PDF_BYTES: Final = 256 << 20
MAX_FILES: Final = 1000
#: For reading one file: address space of the copy beyond what this process has, and processor time.
_MEMORY: Final = 1 << 30
_SECONDS: Final = 300


class BadManual(FairleadError):
    """A file that cannot be imported; the text names it, and says what to do."""


@dataclass(frozen=True, slots=True)
class ReadManual:
    """What a file holds; ``pages`` of a PDF alone, ``notes`` are for the person who imports."""

    kind: ManualKind
    sha256: str
    size: int
    pages: int | None
    passages: list[Passage]
    notes: list[str] = field(default_factory=list)


def files_below(place: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """
    Files to import, each with the name it gets (relative to a folder), and those that are passed over.

    Hidden files and links are passed over silently.

    Raises:
        BadManual: nothing there that can be imported, or too much.
    """
    if place.is_file():
        if place.suffix.lower() not in SUFFIXES:
            raise BadManual(f"{place}: only {', '.join(SUFFIXES)} can be imported; save it as PDF or text")
        return [(place, place.name)], []
    if not place.is_dir():
        raise BadManual(f"{place}: there is no such file or folder")
    found, left = [], []
    for folder, below, names in os.walk(place):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            shown = path.relative_to(place).as_posix()
            if path.suffix.lower() in SUFFIXES:
                found.append((path, shown))
            else:
                left.append(shown)
            if len(found) > MAX_FILES:
                raise BadManual(f"{place}: more than {MAX_FILES} files; import its folders one by one")
    if not found:
        raise BadManual(f"{place}: no file that can be imported ({', '.join(SUFFIXES)})")
    return found, left


def read_manual(
    path: Path, *, log: bool = False, encoding: str | None = None, equipment_column: str | None = None
) -> ReadManual:
    """
    Read a file and cut it into passages.

    *log*: a text is a maintenance log; CSV and ``.log`` are in any case. *encoding* of a text that is not UTF-8.

    Raises:
        BadManual: it cannot be imported.
    """
    try:
        size = path.stat().st_size
        most = MAX_PDF_BYTES if path.suffix.lower() == ".pdf" else MAX_TEXT_BYTES
        if size > most:
            raise BadManual(f"{path}: it has {size >> 20} MiB; {most >> 20} MiB are allowed")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadManual(f"{path}: it cannot be read: {error.strerror}") from error
    done, said = _apart(path, log, encoding, equipment_column)
    if not done:
        raise BadManual(f"{path}: {said}")
    kind, pages, notes, found = msgspec.json.decode(said)
    if not found:
        raise BadManual(f"{path}: there is no text in it")
    if len(found) > MAX_OF_FILE:
        raise BadManual(f"{path}: it makes {len(found)} passages; {MAX_OF_FILE} are allowed, so import it in parts")
    return ReadManual(kind, sha256, size, pages, [Passage.model_validate(one) for one in found], notes)


def _apart(path: Path, log: bool, encoding: str | None, column: str | None) -> tuple[bool, str]:
    """(read, passages as JSON) or (not, the reason), from a copy of this process that may take little."""
    if not hasattr(os, "fork"):
        return _outcome(path, log, encoding, column)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _answer(path, log, encoding, column, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if not answer:
        why = "it took too long" if os.WIFSIGNALED(status) else "reading it failed"
        return False, f"{why}; its pages may be damaged"
    return answer[:1] == b"+", answer[1:].decode()


def _answer(path: Path, log: bool, encoding: str | None, column: str | None, write: int) -> None:
    """Read and send; ends the copy, whatever happens."""
    import resource

    try:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + _MEMORY,) * 2)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        done, said = _outcome(path, log, encoding, column)
        with os.fdopen(write, "wb") as pipe:
            pipe.write((b"+" if done else b"-") + said.encode())
    finally:
        os._exit(0)


def _outcome(path: Path, log: bool, encoding: str | None, column: str | None) -> tuple[bool, str]:
    try:
        kind, pages, notes, found = _read(path, log, encoding, column)
        rows = [one.model_dump(exclude_defaults=True) for one in found]
        return True, msgspec.json.encode([kind, pages, notes, rows]).decode()
    except (BadPdf, BadLog, BadManual) as error:
        return False, str(error)
    except MemoryError:
        return False, "it needs more memory than an import may take"
    except OSError as error:
        return False, f"it cannot be read: {error.strerror}"


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read(
    path: Path, log: bool, encoding: str | None, column: str | None
) -> tuple[ManualKind, int | None, list[str], list[Passage]]:
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        found, pages, notes = pdf_passages(path)
        return "log" if log else "manual", pages, notes, found
    text = _text(path, encoding)
    if suffix == ".csv":
        return "log", None, [], list(csv_entries(text, column))
    if log or suffix in _LOGS:
        return "log", None, [], list(text_entries(text))
    return "manual", None, [], list(_prose(text, markdown=suffix in (".md", ".markdown")))


def _prose(text: str, *, markdown: bool) -> Iterator[Passage]:
    return passages(paragraphs(text.splitlines(), markdown=markdown))


def _text(path: Path, encoding: str | None) -> str:
    raw = path.read_bytes()
    if encoding is None:
        encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadManual(f"line {line}: it is not {encoding.removesuffix('-sig')} text; name its --encoding") from error
    except LookupError:
        raise BadManual(f"there is no encoding {encoding!r}; the usual ones are utf-8, cp1252 and latin-1") from None
    if "\x00" in text:
        raise BadManual(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: it is no text but a binary file")
    return text
