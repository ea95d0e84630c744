"""Whether all clients were told the same: figures of clients that were not cannot be compared."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import msgspec

from worker_adapter.bench.samples import Answer


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """A client that was told something else than ours. The contents themselves are not kept: they may be anybody's."""

    client: str
    answers: int
    """That differ, of all that were looked at."""
    of: int
    position: int | None = None
    """Bytes of a text that are the same before it first differs."""


class Agreement:
    """Holds every answer against our first one."""

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._reference: Hashable = None
        self._own_differ = False
        self._seen: dict[str, int] = {}
        self._different: dict[str, list[int | None]] = {}

    def look(self, client: str, answers: Iterable[Answer]) -> None:
        """Compare what a client was answered; ours must come first."""
        for answer in answers:
            content = answer.content
            if content is None:
                continue
            if self._reference is None:
                if client != self._ours:
                    continue
                self._reference = content
            self._seen[client] = self._seen.get(client, 0) + 1
            if content != self._reference:
                self._own_differ |= client == self._ours
                self._different.setdefault(client, []).append(_position(self._reference, content))

    @property
    def mismatches(self) -> tuple[Mismatch, ...]:
        """Who was told something else; nobody when our own answers differ, since the model then says what it likes."""
        if self._own_differ:
            return ()
        return tuple(
            Mismatch(client=client, answers=len(places), of=self._seen[client], position=places[0])
            for client, places in self._different.items()
        )

    @property
    def verdict(self) -> str:
        """`same`, `different`, or `not checked: …` with the reason."""
        if self._own_differ:
            return "not checked: the model answers the same request differently"
        if self._reference is None:
            return "not checked: no answer came"
        if not self._seen.keys() - {self._ours}:
            return "not checked: no other client was answered"
        return "different" if self._different else "same"


def _position(reference: Hashable, content: Hashable) -> int | None:
    if not (isinstance(reference, str) and isinstance(content, str)):
        return None
    first, second = reference.encode(), content.encode()
    shorter = min(len(first), len(second))
    return next((at for at in range(shorter) if first[at] != second[at]), shorter)
