"""The site's own manuals and maintenance logs, as they are imported: a file, and the passages it was cut into."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: Longest passage in characters; what is shown and cited is a whole passage.
MAX_PASSAGE = 400
MAX_HEADING = 120
MAX_NAME = 200
#: Passages of one file, and passages handed over at once.
MAX_OF_FILE = 20_000
MAX_AT_ONCE = 200

ManualKind = Literal["manual", "log"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Passage(_Frozen):
    """
    A piece of a file. ``page`` counts from 1 (PDF), ``line`` is that of its beginning (text, log).

    ``equipment`` is what an entry of a log names as the thing it is about.
    """

    text: str = Field(min_length=1, max_length=MAX_PASSAGE)
    page: int | None = Field(None, ge=1)
    line: int | None = Field(None, ge=1)
    heading: str = Field("", max_length=MAX_HEADING)
    equipment: str = Field("", max_length=MAX_NAME)


class Manual(_Frozen):
    """
    One file of the site. ``equipment`` are paths, ``classes`` equipment classes that it is about; none of both: the
    whole site. ``sha256`` is that of the file's bytes, ``passages`` their number.
    """

    name: str = Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")
    kind: ManualKind
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    pages: int | None = Field(None, ge=0)
    passages: int = Field(ge=1, le=MAX_OF_FILE)
    equipment: tuple[str, ...] = Field((), max_length=50)
    classes: tuple[str, ...] = Field((), max_length=50)
