"""Conversations by session, for tasks that ask for their `history`."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from sys import getsizeof

import msgspec

from adapter_api import ImagePart, Message, ToolCall
from orchestrator.config import HistorySettings

_MESSAGE_BYTES = 1024
"""What a message takes beside its texts, and a part; a little more than was measured."""


class Turn(msgspec.Struct, frozen=True):
    """What was asked, and what was answered."""

    asked: tuple[Message, ...]
    answer: str
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def answered(self) -> Message:
        """The assistant's message. What it thought is no part of it: models are not shown their old thoughts."""
        return Message(
            role="assistant", content=self.answer or (None if self.tool_calls else ""), tool_calls=self.tool_calls
        )

    @property
    def needs_the_one_before(self) -> bool:
        """Whether it brings the results of tool calls that the turn before made."""
        return bool(self.asked) and self.asked[0].role == "tool"

    def __repr__(self) -> str:
        return f"Turn(<{len(self.asked)} messages, {len(self.answer)} characters>)"


def size_of(messages: Iterable[Message]) -> int:
    """Return how many bytes of memory messages take, about."""
    size = 0
    for message in messages:
        parts = message.content if isinstance(message.content, tuple) else ()
        texts = [part.data if isinstance(part, ImagePart) else part.text for part in parts]
        texts += [call.name + call.id + call.arguments for call in message.tool_calls]
        size += _MESSAGE_BYTES * (1 + len(texts)) + sum(map(getsizeof, texts))
        size += getsizeof(message.content) if isinstance(message.content, str) else 0
    return size


class _Session:
    def __init__(self) -> None:
        self.turns: deque[tuple[Turn, int]] = deque()
        self.bytes = 0
        self.expires = 0.0

    def forget_first(self) -> None:
        self.bytes -= self.turns.popleft()[1]


class Histories:
    """The last `turns` turns of each session, `session_bytes` at most, kept `ttl_s` after the last one; of all sessions
    `max_bytes`. Sessions of different owners never meet, whatever their names."""

    def __init__(self, settings: HistorySettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[tuple[str | None, str], _Session] = OrderedDict()
        self.bytes = 0
        """What all sessions take, about."""

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def session_bytes(self) -> int:
        return self._settings.session_bytes

    def turns(self, owner: str | None, session_id: str) -> tuple[Turn, ...]:
        """Return the turns of a session, oldest first; none when it is new or its time is up."""
        self.forget_old()
        session = self._sessions.get((owner, session_id))
        return tuple(turn for turn, _ in session.turns) if session is not None else ()

    def messages_with(self, owner: str | None, session_id: str, asked: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return the conversation so far, and `asked` after it; a system message of `asked` leads."""
        past: list[Message] = []
        for turn in self.turns(owner, session_id):
            past += [message for message in turn.asked if message.role not in ("system", "developer")]
            past.append(turn.answered)
        system = [message for message in asked if message.role in ("system", "developer")]
        rest = [message for message in asked if message.role not in ("system", "developer")]
        return (*system, *past, *rest)

    def add(self, owner: str | None, session_id: str, turn: Turn) -> None:
        """Remember a turn; one that is larger than a session may be is not kept, and neither is what was before it."""
        self.forget_old()
        key = owner, session_id
        session = self._sessions.setdefault(key, _Session())
        before, size = session.bytes, size_of((*turn.asked, turn.answered))
        session.turns.append((turn, size))
        session.bytes += size
        while len(session.turns) > self._settings.turns or session.bytes > self._settings.session_bytes:
            session.forget_first()
            while session.turns and session.turns[0][0].needs_the_one_before:
                session.forget_first()
        self.bytes += session.bytes - before
        session.expires = self._clock() + self._settings.ttl_s
        self._sessions.move_to_end(key)
        while len(self._sessions) > self._settings.limit or self.bytes > self._settings.max_bytes:
            self._forget_first()

    def clear(self, owner: str | None, session_id: str) -> int:
        """Forget a session; returns how many turns it had."""
        session = self._sessions.pop((owner, session_id), None)
        if session is None:
            return 0
        self.bytes -= session.bytes
        return len(session.turns)

    def forget_old(self) -> None:
        """Forget the sessions whose time is up."""
        now = self._clock()
        # In the order of their time, for it is the same for all.
        while self._sessions and next(iter(self._sessions.values())).expires <= now:
            self._forget_first()

    def _forget_first(self) -> None:
        _, session = self._sessions.popitem(last=False)
        self.bytes -= session.bytes
