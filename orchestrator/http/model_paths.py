"""Which model a path of the v2 protocol names: names have slashes, and parts like the protocol's own. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

ROOT = "/v2/models/"
REPOSITORY = "/v2/repository/models/"


class Named(NamedTuple):
    """What a path asks for."""

    model: str
    version: str | None
    verb: str
    """What is to be done with it, as in `infer`; empty: describe it."""


def named_in(scope: Mapping[str, Any], verbs: frozenset[str], exists: Callable[[str], bool]) -> Named:
    """Return what the path of a request below `ROOT` names.

    A slash that is sent as `%2F` belongs to a name; others are tried as both. Of several readings that name a model
    there is, the first one holds: the one whose last part is a verb, and whose version is one.

    Args:
        scope: The request's scope.
        verbs: What may stand last.
        exists: Whether there is a model of that name.
    """
    parts = _sent(scope).partition(ROOT)[2].split("/")
    readings = list(_readings(parts, verbs))
    return next((reading for reading in readings if exists(reading.model)), readings[0])


def whole_name(scope: Mapping[str, Any], root: str, verb: str) -> str:
    """Return the name between `root` and `verb`, which only has one reading; a slash is one, as it is or as `%2F`."""
    return unquote(_sent(scope).partition(root)[2].removesuffix(f"/{verb}"))


def _sent(scope: Mapping[str, Any]) -> str:
    sent: bytes = scope.get("raw_path") or scope["path"].encode()
    return sent.decode("latin-1").partition("?")[0]


def _readings(parts: list[str], verbs: frozenset[str]) -> Iterator[Named]:
    if len(parts) > 1 and parts[-1] in verbs:
        yield from _with_version(parts[:-1], parts[-1])
    yield from _with_version(parts, "")


def _with_version(parts: list[str], verb: str) -> Iterator[Named]:
    if len(parts) > 2 and parts[-2] == "versions":
        yield Named(_name(parts[:-2]), unquote(parts[-1]), verb)
    yield Named(_name(parts), None, verb)


def _name(parts: list[str]) -> str:
    return "/".join(map(unquote, parts))
