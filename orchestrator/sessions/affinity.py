"""Which replica served a session last: its cache may still hold the conversation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from orchestrator.config.settings import SessionSettings


class SessionKey(NamedTuple):
    """One conversation with one model. Owners never share one, whatever they call it."""

    owner: str | None
    model: str
    session_id: str


class Place(NamedTuple):
    """Where a session was served. `life` tells one life of an engine from the next: a cache does not outlive it."""

    pool_id: str
    replica_id: str
    life: int


class Affinity:
    """Remembers the place of each session for `ttl_s` after its last task; for `limit` sessions
    at most."""

    def __init__(self, settings: SessionSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._known: OrderedDict[SessionKey, tuple[Place, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def place_of(self, session: SessionKey) -> Place | None:
        """Return where the session was served last; `None` when that is forgotten, or it is new."""
        place, expires = self._known.get(session, (None, 0.0))
        if place is not None and expires <= self._clock():
            del self._known[session]
            return None
        return place

    def remember(self, session: SessionKey, place: Place) -> None:
        now = self._clock()
        self._known[session] = (place, now + self._settings.ttl_s)
        self._known.move_to_end(session)
        while next(iter(self._known.values()))[1] <= now:  # in the order of their time, for it is the same for all
            self._known.popitem(last=False)
        while len(self._known) > self._settings.limit:
            self._known.popitem(last=False)

    def forget(self, owner: str | None, session_id: str) -> int:
        """Forget an owner's session with every model; returns how many entries that were."""
        keys = [key for key in self._known if (key.owner, key.session_id) == (owner, session_id)]
        for key in keys:
            del self._known[key]
        return len(keys)
