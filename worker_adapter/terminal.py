"""What may be written to a terminal, and how: colours, tables, text from strangers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from adapter_kit.printable import printable, printable_line, width_of
from adapter_kit.standard_streams import tell

Style = Literal["red", "green", "yellow", "cyan", "bold", "dim"]

_CODES: dict[Style, int] = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


def has_colour(stream: TextIO) -> bool:
    """Return whether `stream` shows colours: a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Style, stream: TextIO) -> str:
    """Return `text` in a style, or as it is when `stream` shows none."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if has_colour(stream) else text


def without_controls(text: str) -> str:
    """Return a model's text of several lines without what a terminal would obey."""
    return printable(text)


def one_line(text: str) -> str:
    """Return a name or a sentence from anywhere as one line without what a terminal would obey."""
    return printable_line(text)


def say(text: str = "") -> None:
    """Print one line, whoever wrote what is in it."""
    print(one_line(text))


def note(text: str, style: Style = "dim") -> None:
    """Write a line about what goes on to standard error. One that cannot be written, on a full disk, stops nothing."""
    tell(styled(one_line(text), style, sys.stderr))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, Style] | None = None
) -> None:
    """Print left-aligned columns as wide as their contents; a cell that is a key of `colours` is coloured."""
    cells = [[one_line(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(headings, *cells, strict=True)]
    print(styled(_line(headings, widths, {}), "bold", sys.stdout))
    for row in cells:
        print(_line(row, widths, colours or {}))


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair per line."""
    lines = [(one_line(name), one_line(value)) for name, value in fields]
    width = max(width_of(name) for name, _ in lines)
    for name, value in lines:
        padded = name + " " * (width - width_of(name))
        print(f"{styled(padded, 'dim', sys.stdout)}  {value}".rstrip())


def _line(cells: Sequence[str], widths: Sequence[int], colours: Mapping[str, Style]) -> str:
    line = ""
    for cell, width in zip(cells, widths, strict=True):
        painted = styled(cell, colours[cell], sys.stdout) if cell in colours else cell
        line += painted + " " * (width - width_of(cell) + 2)
    return line.rstrip()
