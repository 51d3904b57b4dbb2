"""
Grammar of the one free text. No schema converter: those admit raw control characters and free white space.

Every repetition is bounded, so the longest text is known in bytes, and a token is at least one byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Ends the text; cannot occur in it.
END: Final = '"'
_BEFORE: Final = 36
_AFTER: Final = 40
_CITATIONS: Final = 3
_BARE: Final = 120
#: Longest text in bytes, terminator excluded.
MAX_BYTES: Final = _BEFORE + _CITATIONS * (len("[E99]") + _AFTER)
#: Printable ASCII without digits, quotes, backslash, brackets, braces, the characters of markup, and the underscore
#: that makes a word a tag's name.
_LETTER: Final = "letter ::= [ !$%'()*+,./:;=?@A-Za-z-]"


#: Longest action in a model's own words, in bytes.
MAX_ACTION: Final = 80


def own_action() -> str:
    """GBNF of a few words that begin with a letter; no digit, no citation."""
    return f'root ::= [A-Za-z] letter{{3,{MAX_ACTION - 1}}} "\\""\n{_LETTER}'


def free_text(fact_ids: Sequence[str]) -> str:
    """GBNF of a text that cites one to three of the given facts and holds no other digit; without facts, none."""
    if not fact_ids:
        return f'root ::= letter{{1,{_BARE}}} "\\""\n{_LETTER}'
    ids = " | ".join(f'"{fact_id}"' for fact_id in fact_ids)
    return "\n".join(
        [
            f'root ::= letter{{0,{_BEFORE}}} (cite letter{{0,{_AFTER}}}){{1,{_CITATIONS}}} "\\""',
            f'cite ::= "[" ({ids}) "]"',
            _LETTER,
        ]
    )


def free_pattern(fact_ids: Sequence[str]) -> str:
    """The same text as a regular expression for a JSON schema, without anchors and without the end."""
    letter = "[ !$%'()*+,./:;=?@A-Z_a-z-]"
    if not fact_ids:
        return f"{letter}{{1,{_BARE}}}"
    return f"{letter}{{0,{_BEFORE}}}(\\[({'|'.join(fact_ids)})\\]{letter}{{0,{_AFTER}}}){{1,{_CITATIONS}}}"
