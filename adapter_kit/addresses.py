"""Keeps where an engine runs out of what its clients are told: addresses and files are the operator's business."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

_MARK = "the engine"
_PLACE = (
    r"(?:[a-z][a-z0-9+.-]*://[^\s'\"<>,;()\[\]]*(?:\[[0-9a-f:.]+\][^\s'\"<>,;()]*)?"  # a URL
    r"|unix(?:-abstract)?:[^\s'\",;()]+"
    r"|(?:ipv[46]:)?(?:%5B|\[)[0-9a-f:.]*:[0-9a-f:.]+(?:%\w+)?(?:%5D|\])(?::\d+)?"  # IPv6
    r"|(?:ipv4:)?\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"
    # A name and a port; what ends in .toml is a file of settings, and the number its line.
    r"|\b(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?!toml:)[a-z-]{2,}|[a-z][a-z0-9-]*-\d+):\d{2,5}\b"
    r"|\b(?!toml:)[a-z][a-z0-9-]*:\d{4,5}\b)"
)
_JOINT = r"(?P<joint>\s(?:on|at|from|to|with|of|behind)\s(?:address(?:es)?\s|host\s|server\s)?)?"
_FILE = re.compile(r"(?<![\w/$.])(?!/v[12]\b|/docs\b)/(?:[\w.+@~-]+/)+[\w.+@~-]*")
_FILE_MARK = "…"


def without_addresses(text: str, names: Iterable[str] = ()) -> str:
    """Return `text` without URLs, addresses with their ports, and paths of files.

    Args:
        text: Some sentences, of an adapter or an engine.
        names: Names of hosts that are told nobody, too.
    """
    known = "|".join(re.escape(name) + r"\b" for name in sorted(set(names), key=len, reverse=True))
    place = rf"(?:{_PLACE}|\b(?:{known}))" if known else _PLACE
    text = re.sub(_JOINT + place, _replaced, text, flags=re.IGNORECASE)
    return _FILE.sub(_FILE_MARK, text)


def host_names(options: Any) -> Iterator[str]:
    """Yield the names of hosts that an adapter's options hold, as far as they are no ordinary words."""
    for value in options.values() if isinstance(options, dict) else options:
        if isinstance(value, dict | list | tuple):
            yield from host_names(value)
        elif isinstance(value, str) and (name := _host_in(value)) and re.search(r"[.\d-]", name):
            yield name


def _host_in(text: str) -> str | None:
    try:
        return urlsplit(text if "://" in text else f"//{text}").hostname if ":" in text else None
    except ValueError:
        return None


def _replaced(found: re.Match[str]) -> str:
    # A full stop, or a colon, that ends what was said of it is not part of it.
    tail = re.search(r"[.:!?]*$", found[0])
    end = tail[0] if tail else ""
    return end if found["joint"] else _MARK + end
