"""A header of a request, found where it lies: to make an object of all of them, and a text of each, costs several times
as much."""

from __future__ import annotations

from typing import overload

from starlette.types import Scope


@overload
def header_of(scope: Scope, name: bytes) -> str | None: ...
@overload
def header_of(scope: Scope, name: bytes, default: str) -> str: ...
def header_of(scope: Scope, name: bytes, default: str | None = None) -> str | None:
    """Return the first header of that name, which is in lower case; `default` where there is none."""
    for each, value in scope["headers"]:
        if each == name:
            found: str = value.decode("latin-1")
            return found
    return default
