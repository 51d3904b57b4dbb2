"""Cut texts into passages: whole paragraphs where they fit, whole sentences where they do not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from schemas.manuals import MAX_HEADING, MAX_PASSAGE, Passage

#: A shorter paragraph joins its neighbour.
_SMALL: Final = 160
_SENTENCE: Final = re.compile(r"(?<=[.!?;:])\s+")
_HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_NUMBERED: Final = re.compile(r"^\d{1,3}(\.\d{1,3}){0,4}\.?\s+\S.{0,100}$")
_FENCE: Final = re.compile(r"^\s*(```|~~~|---+\s*$|\|?[\s:|-]*-{3,}[\s:|-]*$)")
_MARKS: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")
_SOFT_HYPHEN: Final = "\u00ad"
_LIGATURES: Final = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"})


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph with the heading above it, and the page and line on which it begins."""

    text: str
    heading: str = ""
    page: int | None = None
    line: int | None = None


def tidy(text: str) -> str:
    """One line of visible characters: no control and direction characters, no ligatures, single spaces."""
    plain = text.replace(_SOFT_HYPHEN, "").translate(_LIGATURES)
    return " ".join("".join(" " if unicodedata.category(ch)[0] == "C" else ch for ch in plain).split())


def paragraphs(lines: Iterable[str], *, page: int | None = None, markdown: bool = False) -> Iterator[Paragraph]:
    """
    Paragraphs of a text: what stands between empty lines, and list items.

    A word cut at the end of a line is put together again. Headings are those of Markdown, else lines that begin with
    a number such as ``4.2``; they are no paragraphs.
    """
    held: list[str] = []
    heading, begun = "", 0

    def flush() -> Iterator[Paragraph]:
        text = tidy(_joined(held))
        held.clear()
        if any(letter.isalnum() for letter in text):
            yield Paragraph(text, heading, page, begun if page is None else None)

    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        title = _title(stripped, held, markdown=markdown)
        if title is not None:
            yield from flush()
            heading = title[:MAX_HEADING]
            continue
        if not stripped or _FENCE.match(line):
            yield from flush()
            continue
        if re.match(r"^([-*+•–]|\d{1,2}[.)])\s", stripped):
            yield from flush()
        if not held:
            begun = number
        held.append(_MARKS.sub(r"\1", stripped) if markdown else stripped)
    yield from flush()


def _title(line: str, before: list[str], *, markdown: bool) -> str | None:
    found = _HEADING.match(line) if markdown else None
    if found is not None:
        return tidy(found.group(1))
    if not markdown and not before and _NUMBERED.match(line) and not line.endswith((".", ",", ";", ":")):
        return tidy(line)
    return None


def _joined(lines: list[str]) -> str:
    text = ""
    for line in lines:
        if text.endswith("-") and text[-2:-1].isalpha() and line[:1].islower():
            text = text[:-1] + line
        else:
            text = f"{text} {line}" if text else line
    return text


def passages(found: Iterable[Paragraph]) -> Iterator[Passage]:
    """Paragraphs packed into passages of one page and one heading each."""
    held: list[Paragraph] = []
    for paragraph in found:
        size = sum(len(one.text) + 1 for one in held)
        fits = (
            held
            and (size < _SMALL or len(paragraph.text) < _SMALL)
            and size + len(paragraph.text) <= MAX_PASSAGE
            and (held[-1].heading, held[-1].page) == (paragraph.heading, paragraph.page)
        )
        if not fits and held:
            yield from _pieces(held)
            held = []
        held.append(paragraph)
    if held:
        yield from _pieces(held)


def _pieces(held: list[Paragraph]) -> Iterator[Passage]:
    first = held[0]
    for text in cut(" ".join(one.text for one in held)):
        yield Passage(text=text, page=first.page, line=first.line, heading=first.heading)


def cut(text: str) -> Iterator[str]:
    """Pieces of at most ``MAX_PASSAGE`` characters, at ends of sentences, else between words, else anywhere."""
    piece = ""
    for sentence in _SENTENCE.split(text):
        for part in _bounded(sentence):
            if piece and len(piece) + 1 + len(part) > MAX_PASSAGE:
                yield piece
                piece = part
            else:
                piece = f"{piece} {part}" if piece else part
    if piece:
        yield piece


def _bounded(sentence: str) -> Iterator[str]:
    while len(sentence) > MAX_PASSAGE:
        place = sentence.rfind(" ", 1, MAX_PASSAGE + 1)
        at = place if place > 0 else MAX_PASSAGE
        yield sentence[:at].rstrip()
        sentence = sentence[at:].lstrip()
    if sentence:
        yield sentence
