"""Fields of OpenAI's requests that nobody here knows: taken as other servers take them, and told to who sent them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from adapter_api import Unsupported

HEADER = "X-Ignored-Fields"
LOG_EVERY_S = 60.0
_MOST, _LONGEST = 16, 64
"""Names that are told at a time, and characters of each."""
_ODD = re.compile(r"[^A-Za-z0-9_.-]")

_log = logging.getLogger("orchestrator.http.unknown_fields")


class UnknownFields:
    """What becomes of them: one per host. `clock` tells seconds that never go back."""

    def __init__(self, *, refuse: bool, clock: Callable[[], float]) -> None:
        self._refuse = refuse
        self._clock = clock
        self._next_line = clock()
        self._requests = 0
        self._names: dict[str, None] = {}

    def headers(self, names: Sequence[str]) -> dict[str, str]:
        """Return what tells the sender of a request which fields were ignored.

        Raises:
            Unsupported: There are some, and the settings say to refuse them.
        """
        if not names:
            return {}
        told = [_told(name) for name in names[:_MOST]]
        if self._refuse:
            raise Unsupported(f"{told[0]!r} is no field that this server knows; leave it out")
        self._count(told)
        return {HEADER: ", ".join([*told, *(["..."] if len(names) > _MOST else [])])}

    def _count(self, told: list[str]) -> None:
        """Log a line at once, and what comes in the minute after it in one more."""
        self._requests += 1
        for name in told[: max(_MOST - len(self._names), 0)]:
            self._names[name] = None
        if (now := self._clock()) < self._next_line:
            return
        _log.warning(
            "fields that this server does not know were ignored in %d requests: %s; their senders see them in %s, and "
            'server.unknown_fields = "refuse" refuses them',
            self._requests, ", ".join(self._names), HEADER,
        )  # fmt: skip
        self._next_line = now + LOG_EVERY_S
        self._requests = 0
        self._names.clear()


def _told(name: str) -> str:
    """Return a name as a header and a log can hold it: clients make them up."""
    return _ODD.sub("?", name[:_LONGEST]) or "?"
