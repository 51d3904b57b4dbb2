"""Text of a PDF, page by page. The only importer of pypdf."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.manuals.cutting import paragraphs, passages
from schemas.manuals import Passage

MAX_PAGES: Final = 3000
#: Fewer letters than this on all pages together is a scan, not a text.
_FEW_LETTERS: Final = 20


class BadPdf(ValueError):
    """A PDF that cannot be read; the text says why and what to do."""


def pdf_passages(path: Path) -> tuple[list[Passage], int, list[str]]:
    """
    (passages, number of pages, notes for a person) of a file.

    Raises:
        BadPdf: not a PDF, damaged, encrypted, too long, or without text.
    """
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it thinks of a file is told by us, once
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadPdf("it is encrypted; save it without a password and import that")
        pages = len(reader.pages)
        if pages > MAX_PAGES:
            raise BadPdf(f"it has {pages} pages; {MAX_PAGES} are allowed, so import it in parts")
        found: list[Passage] = []
        empty = letters = 0
        for number, page in enumerate(reader.pages, 1):
            text = page.extract_text()
            here = sum(letter.isalpha() for letter in text)
            letters += here
            empty += here == 0
            found += _of_page(text, number)
    except BadPdf:
        raise
    except MemoryError:
        raise BadPdf("it needs more memory than an import may take") from None
    except (PyPdfError, NotImplementedError, ImportError) as error:
        raise BadPdf(f"it cannot be read as a PDF: {_plain(error)}") from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise BadPdf(f"it is damaged: {type(error).__name__}: {_plain(error)}") from error
    if letters < _FEW_LETTERS:
        raise BadPdf(
            f"its {pages} pages have no text (a scan?); let a text recognition (OCR) make one, and import that"
        )
    notes = [f"{empty} of {pages} pages have no text and cannot be found"] if empty else []
    return found, pages, notes


def _of_page(text: str, number: int) -> Iterator[Passage]:
    return passages(paragraphs(text.splitlines(), page=number))


def _plain(error: BaseException) -> str:
    said = " ".join(str(error).split())[:120]
    return "".join(ch if ch.isprintable() else "?" for ch in said) or "no reason is told"
