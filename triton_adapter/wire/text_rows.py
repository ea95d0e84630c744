"""What a row of the table of engines' texts is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from adapter_api import AdapterError


class Said(NamedTuple):
    """A text as an engine says it, the release that does, and how we know."""

    text: str
    release: str
    source: str = "seen"


@dataclass(frozen=True, slots=True)
class Row:
    """`text` is a regular expression to find in the status text, `codes` the gRPC codes it may come with.

    Without `codes` any code will do, none at all included. `advice` is what to do, for people. `dead` says that nothing
    will work there before somebody acts. `begun` is what it is once a token was shown, when that is another matter.
    """

    text: str
    error: type[AdapterError]
    advice: str = ""
    codes: frozenset[str] = frozenset()
    retryable: bool | None = None
    dead: bool = False
    begun: type[AdapterError] | None = None
    said: tuple[Said, ...] = ()


Compiled = tuple[re.Pattern[str], Row]


def row(
    text: str,
    error: type[AdapterError],
    advice: str = "",
    *codes: str,
    retryable: bool | None = None,
    dead: bool = False,
    begun: type[AdapterError] | None = None,
    said: tuple[Said, ...],
) -> Compiled:
    made = Row(text, error, advice, frozenset(codes), retryable, dead, begun, said)
    return re.compile(text, re.IGNORECASE | re.DOTALL), made
