"""Makes text from strangers fit for a terminal: what a model, an engine or a client wrote must not move the cursor,
retitle the window, begin a line of its own, or show letters in another order than they are in. JSON needs none of this.
"""

from __future__ import annotations

import re
import unicodedata

_MARK = "\N{REPLACEMENT CHARACTER}"
# ECMA-48: control sequences, then strings (titles, links) up to their end, then the two-character ones.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), *range(0xD800, 0xE000)), _MARK)
# Embeddings, overrides and isolates; letters of tags, which nobody sees.
_ORDER = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)), None)
_IN_TEXT = {**_CONTROLS, **_ORDER}
_BREAKS = dict.fromkeys((0x09, 0x0A, 0x0D, 0x0B, 0x0C, 0x85, 0x2028, 0x2029), " ")
_MARKS = dict.fromkeys((0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(0xFFF9, 0xFFFC)), None)
_IN_LINE = {**_CONTROLS, **_ORDER, **_MARKS, **_BREAKS}


def printable(text: str) -> str:
    """Return a text of several lines without what a terminal would obey; line breaks and tabs stay."""
    return text if text.isprintable() else _SEQUENCE.sub("", text).translate(_IN_TEXT)


def printable_line(text: str) -> str:
    """Return a name or a sentence as one line, without what a terminal would obey."""
    return (
        text if text.isprintable() else _SEQUENCE.sub("", text.strip("\r\n")).replace("\r\n", " ").translate(_IN_LINE)
    )


def width_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return sum(
        0 if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf")
        else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )  # fmt: skip
