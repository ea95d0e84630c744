"""Which replica served a session last: its cache may still hold the conversation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from orchestrator.settings import SessionSettings


class SessionKey(NamedTuple):
    """One conversation with one model. Owners never share one, whatever they call it."""

    owner: str | None
    model: str
    session_id: str


class Affinity:
    """Remembers the replica of each session, as `pool/replica`, for `ttl_s` after its last task; for `limit` sessions
    at most."""

    def __init__(self, settings: SessionSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._known: OrderedDict[SessionKey, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def replica_of(self, session: SessionKey) -> str | None:
        """Return the replica that served the session last; `None` when that is forgotten, or it is new."""
        replica_id, expires = self._known.get(session, (None, 0.0))
        if replica_id is not None and expires <= self._clock():
            del self._known[session]
            return None
        return replica_id

    def remember(self, session: SessionKey, replica_id: str) -> None:
        now = self._clock()
        self._known[session] = (replica_id, now + self._settings.ttl_s)
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
