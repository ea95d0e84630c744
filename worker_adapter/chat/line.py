"""What a line means that somebody typed, pasted, or dragged a file into. No I/O but looking whether a file is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_UNREAD = frozenset({".heic", ".heif", ".avif", ".svg", ".ico", ".jp2", ".jxl", ".psd", ".eps", ".tga"})
"""Endings of pictures that no model is shown: who drags one in is told so, and the model is not sent its name."""

# Quoted as shells and Python do ('it'\''s', 'it'"'"'s'), in double quotes, or bare with blanks escaped; and what ends a
# sentence after it.
_WORD = re.compile(
    r"""(?<!\S)(?:'[^']*'(?:(?:\\'|"'")'[^']*')*[.,;:?!]*|"(?:\\.|[^"\\])*"[.,;:?!]*|(?:\\.|[^\s\\])+)(?!\S)""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BEGINS_A_PATH = ("/", "~/", "./", "../", "file:")
_PUNCTUATION = ".,;:?!"


@dataclass(frozen=True, slots=True)
class Command:
    """A line that speaks to the program, as `/save chat.md`."""

    name: str
    rest: str


@dataclass(frozen=True, slots=True)
class Question:
    """A line that speaks to the model, and the pictures whose paths were in it."""

    text: str
    images: tuple[str, ...] = ()


def read_line(line: str, commands: frozenset[str]) -> Command | Question:
    """Return what a line means.

    A path counts as a picture where it is one by its ending, is no bare name, and is there. A line that begins with a
    slash and a word is a command, also where there is none of that name, so that a typing error is no question; with
    two slashes it is a question that begins with one.
    """
    stripped = line.strip()
    if stripped.startswith("//"):
        return Question(stripped[1:])
    command = re.match(r"/([a-z]+)(?:\s+|$)", stripped)
    if command is not None and (command[1] in commands or not _is_picture(stripped)):
        return Command(command[1], stripped[command.end() :])
    for whole in (_path_in(stripped), _path_in(stripped.rstrip(_PUNCTUATION))):
        if whole is not None and _is_picture(whole):
            return Question("", (whole,))
    images: list[str] = []

    def take(word: re.Match[str]) -> str:
        for candidate in (_path_in(word[0]), _path_in(word[0].rstrip(_PUNCTUATION))):
            if candidate and _is_picture(candidate):
                images.append(candidate)
                return ""
        return word[0]

    rest = _WORD.sub(take, stripped)
    text = re.sub(r"[^\S\n]{2,}", " ", rest).strip() if images else stripped
    return Question(text, tuple(images))


def paths_in(text: str) -> tuple[str, ...]:
    """Return the paths and URLs in what follows `/image`: words as a shell has them, or one path with blanks in it."""
    text = text.strip()
    if text and Path(_unquoted(text)).expanduser().is_file():
        return (str(Path(_unquoted(text)).expanduser()),)
    return tuple(_plain(_unquoted(word[0])) for word in _WORD.finditer(text))


def _path_in(word: str) -> str | None:
    plain = _unquoted(word)
    return _plain(plain) if plain.startswith(_BEGINS_A_PATH) else None


def _plain(path: str) -> str:
    if path.lower().startswith("file:"):
        return _local(path)
    return str(Path(path).expanduser()) if path.startswith("~") else path


def _local(url: str) -> str:
    """Return the path in a file URL; the URL itself where it is none, or names another machine."""
    try:
        where = urlsplit(url)
    except ValueError:
        return url
    return url2pathname(where.path) if where.netloc in ("", "localhost") else url


def _unquoted(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] == "'":
        return word[1:-1].replace("'\\''", "'").replace("'\"'\"'", "'")
    if len(word) > 1 and word[0] == word[-1] == '"':
        return _ESCAPED.sub(r"\1", word[1:-1])
    return _ESCAPED.sub(r"\1", word)


def _is_picture(path: str) -> bool:
    found = Path(path)
    try:
        return found.suffix.lower() in PICTURES | _UNREAD and found.is_file()
    except (OSError, ValueError):  # too long for a path, or with a null in it
        return False
