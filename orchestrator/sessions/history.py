"""Conversations by session, for tasks that ask for their `history`."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec

from adapter_api import Message
from orchestrator.config import HistorySettings


class Turn(msgspec.Struct, frozen=True):
    """What was asked, and what was answered."""

    asked: tuple[Message, ...]
    answer: str

    def __repr__(self) -> str:
        return f"Turn(<{len(self.asked)} messages, {len(self.answer)} characters>)"


class _Session:
    def __init__(self, turns: int) -> None:
        self.turns: deque[Turn] = deque(maxlen=turns)
        self.expires = 0.0


class Histories:
    """The last `turns` turns of each session, kept `ttl_s` after the last one. Sessions of different owners never
    meet, whatever their names."""

    def __init__(self, settings: HistorySettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[tuple[str | None, str], _Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def turns(self, owner: str | None, session_id: str) -> tuple[Turn, ...]:
        """Return the turns of a session, oldest first; none when it is new or its time is up."""
        session = self._sessions.get((owner, session_id))
        if session is None:
            return ()
        if session.expires <= self._clock():
            del self._sessions[owner, session_id]
            return ()
        return tuple(session.turns)

    def messages_with(self, owner: str | None, session_id: str, asked: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return the conversation so far, and `asked` after it; a system message of `asked` leads."""
        past: list[Message] = []
        for turn in self.turns(owner, session_id):
            past += [message for message in turn.asked if message.role not in ("system", "developer")]
            past.append(Message(role="assistant", content=turn.answer))
        system = [message for message in asked if message.role in ("system", "developer")]
        rest = [message for message in asked if message.role not in ("system", "developer")]
        return (*system, *past, *rest)

    def add(self, owner: str | None, session_id: str, turn: Turn) -> None:
        if not self.turns(owner, session_id):
            self._sessions[owner, session_id] = _Session(self._settings.turns)
        session, now = self._sessions[owner, session_id], self._clock()
        session.turns.append(turn)
        session.expires = now + self._settings.ttl_s
        self._sessions.move_to_end((owner, session_id))
        while next(iter(self._sessions.values())).expires <= now:  # in the order of their time: it is the same for all
            self._sessions.popitem(last=False)
        while len(self._sessions) > self._settings.limit:
            self._sessions.popitem(last=False)

    def clear(self, owner: str | None, session_id: str) -> int:
        """Forget a session; returns how many turns it had."""
        session = self._sessions.pop((owner, session_id), None)
        return len(session.turns) if session else 0
