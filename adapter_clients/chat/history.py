"""What a session has said so far, bounded in turns and in bytes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from sys import getsizeof

from adapter_api import ImagePart, Message, Tool, ToolCall
from adapter_clients.chat.turn_taking import Floor

_MESSAGE_BYTES = 1024
"""What a message takes beside its texts, and a part; a little more than was measured."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and everything that was said until the next: answers, tool calls, their results."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The tool calls whose results are still to come."""
        last = self.messages[-1]
        return last.tool_calls if last.role == "assistant" else ()


class History:
    """The last turns of one session. The newest turn is always kept, whole.

    Args:
        turns: How many are kept at most.
        most_bytes: How much memory they may take, about.
    """

    def __init__(self, turns: int, most_bytes: int) -> None:
        self._limit = turns
        self._most_bytes = most_bytes
        self._turns: deque[tuple[Turn, int]] = deque()
        self.edition = 0
        """How often it was cleared."""
        self.floor = Floor()
        """Who may ask in this session now."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, oldest first."""
        return tuple(message for turn, _ in self._turns for message in turn.messages)

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The tool calls of the last answer whose results are still to come."""
        return self._turns[-1][0].pending if self._turns else ()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the turn that waits for results."""
        return self._turns[-1][0].tools if self.pending else ()

    def add(self, said: Iterable[Message], *, tools: tuple[Tool, ...]) -> None:
        """Remember a question and its answer, or the results of tools and what was answered to them."""
        turn = Turn(tuple(said), tools)
        if self.pending:
            before, _ = self._turns.pop()
            turn = Turn((*before.messages, *turn.messages), tools)
        self._turns.append((turn, size_of(turn.messages)))
        # A turn that waits for the results of its tools is not over: even without a history it must still be there.
        most = max(self._limit, 1) if turn.pending else self._limit
        while len(self._turns) > most or (len(self._turns) > 1 and self._size() > self._most_bytes):
            self._turns.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._turns.clear()
        self.edition += 1

    def _size(self) -> int:
        return sum(size for _, size in self._turns)


class Sessions:
    """The histories of all sessions; beyond `most`, the one that was silent for longest is forgotten."""

    def __init__(self, new: Callable[[], History], most: int) -> None:
        self._new = new
        self._most = most
        self._known: OrderedDict[str, History] = OrderedDict()

    def of(self, session: str) -> History:
        """Return the history of a session, a new one when it has none."""
        history = self._known.get(session)
        if history is None:
            history = self._known[session] = self._new()
        self._known.move_to_end(session)
        while len(self._known) > self._most and (idle := self._longest_silent(session)) is not None:
            del self._known[idle]
        return history

    def peek(self, session: str) -> History | None:
        """Return the history of a session, `None` when it has none."""
        return self._known.get(session)

    def _longest_silent(self, but: str) -> str | None:
        return next((name for name, each in self._known.items() if name != but and not each.floor.taken), None)


def size_of(messages: Iterable[Message]) -> int:
    """Return how many bytes of memory messages take, about."""
    size = 0
    for message in messages:
        parts = message.content if isinstance(message.content, tuple) else ()
        texts = [(part.data or part.url or "") if isinstance(part, ImagePart) else part.text for part in parts]
        texts += [call.arguments for call in message.tool_calls]
        size += _MESSAGE_BYTES * (1 + len(texts)) + sum(map(getsizeof, texts))
        size += getsizeof(message.content) if isinstance(message.content, str) else 0
    return size
