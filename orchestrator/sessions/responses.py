"""Responses that are kept to be read again, and to be gone on from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from sys import getsizeof
from typing import Any, Literal, Protocol
from uuid import uuid4

import anyio
import msgspec

from adapter_api import Message
from orchestrator.config import ResponsesSettings
from orchestrator.sessions.history import size_of

Status = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]

_BYTES = 2048
"""What one takes beside its texts; a little more than was measured."""
_ITEM_BYTES = 1024
_MOST_DIGITS = 9


class KeptResponse:
    """One response: what was asked, what was answered, and the response before it."""

    def __init__(
        self, owner: str | None, response_id: str, asked: Sequence[Message], before: KeptResponse | None
    ) -> None:
        self.owner = owner
        self.id = response_id
        self.key = uuid4().hex
        """Its own: a client may give a later response the same id."""
        self.asked = tuple(asked)
        self.answered: Message | None = None
        self.before = before
        self.body: Mapping[str, Any] = {}
        """The response as its readers get it, without its output."""
        self.items: Sequence[Mapping[str, Any]] = ()
        """Its output."""
        self.status: Status = "in_progress"
        self.bytes = 0
        """What it takes itself, about."""
        self.conversation_bytes = 0
        """What it takes with all those before it."""
        self.expires = 0.0
        self.is_kept = False
        self.is_gone = False
        """Whether nobody could read it nor go on from it any more."""
        self.followers = 0
        self.ended = anyio.Event()
        """Set when nothing more is written to it."""

    def __repr__(self) -> str:
        return f"KeptResponse(id={self.id!r}, status={self.status!r}, <{self.bytes} bytes>)"

    @property
    def conversation(self) -> tuple[Message, ...]:
        """All that was said, from the first response to this one."""
        turns: list[tuple[Message, ...]] = []
        each: KeptResponse | None = self
        while each is not None:
            turns.append((*each.asked, *(() if each.answered is None else (each.answered,))))
            each = each.before
        return tuple(message for turn in reversed(turns) for message in turn)

    def item(self, item_id: str) -> Mapping[str, Any] | None:
        """Return one of its items by its id, which ends in its place."""
        place = item_id.rpartition("_")[2]
        found = self.items[int(place)] if _is_place(place) and int(place) < len(self.items) else None
        return found if found is not None and found["id"] == item_id else None

    @property
    def first(self) -> KeptResponse:
        """The response that the conversation began with."""
        each = self
        while each.before is not None:
            each = each.before
        return each


class File(Protocol):
    """Where responses are written to, beside the memory."""

    def save(self, response: KeptResponse, left_s: float) -> None: ...
    def prolong(self, response: KeptResponse, left_s: float) -> None: ...
    def hide(self, response: KeptResponse) -> None: ...
    def delete(self, response: KeptResponse) -> None: ...
    async def load(self) -> list[tuple[KeptResponse, bool, float]]: ...


class Responses:
    """The last responses of everybody, kept `ttl_s` after their last use, within bounds of their own. What was said
    before a response stays as long as the response does. Those of different owners never meet, whatever their names.
    With a `file` they are in that, too, and `load` has them again."""

    def __init__(self, settings: ResponsesSettings, clock: Callable[[], float], file: File | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._file = file
        self._kept: OrderedDict[tuple[str | None, str], KeptResponse] = OrderedDict()
        self.bytes = 0
        """What all of them take, about."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def conversation_bytes(self) -> int:
        """The most that a conversation may take to be kept."""
        return self._settings.conversation_bytes

    @property
    def ttl_s(self) -> float:
        return self._settings.ttl_s

    async def load(self) -> None:
        """Take in what the file has, within the bounds there are now. To be called once, before anything is kept."""
        if self._file is None:
            return
        now = self._clock()
        loaded = await self._file.load()
        for response, is_kept, left_s in loaded:
            response.bytes = _BYTES + size_of(response.asked) + _size_of_answer(response)
            before = response.before
            response.conversation_bytes = response.bytes + (before.conversation_bytes if before is not None else 0)
            self.bytes += response.bytes
            if before is not None:
                before.followers += 1
            response.is_kept = is_kept
            response.expires = now + min(left_s, self._settings.ttl_s)
        kept = [response for response, is_kept, _ in loaded if is_kept]
        for response in sorted(kept, key=lambda each: each.expires):
            older = self._kept.pop((response.owner, response.id), None)
            if older is not None:  # that it was replaced was not written any more
                older.is_kept = False
            self._kept[response.owner, response.id] = response
        for response, _, _ in loaded:
            self._free(response)  # what nobody goes on from any more
        self.forget_old()
        self._forget_too_many()

    def begin(
        self, owner: str | None, response_id: str, asked: Sequence[Message], before: KeptResponse | None
    ) -> KeptResponse | None:
        """Keep a response that has begun; `None` when the conversation is too large to be kept."""
        self.forget_old()
        response = KeptResponse(owner, response_id, asked, before)
        response.bytes = _BYTES + size_of(response.asked)
        response.conversation_bytes = response.bytes + (before.conversation_bytes if before is not None else 0)
        if response.conversation_bytes > self._settings.conversation_bytes:
            return None
        if before is not None:
            self._go_on_from(before)
        self.delete(owner, response_id)
        self._kept[owner, response_id] = response
        response.is_kept = True
        response.expires = self._clock() + self._settings.ttl_s
        self.bytes += response.bytes
        self._forget_too_many()
        return response

    def end(
        self,
        response: KeptResponse,
        status: Status,
        body: Mapping[str, Any],
        items: Sequence[Mapping[str, Any]],
        answered: Message | None,
    ) -> bool:
        """Note how a response ended; returns whether it is still kept."""
        response.status, response.body, response.items, response.answered = status, body, items, answered
        response.ended.set()
        if not response.is_kept:
            return False
        more = _size_of_answer(response)
        response.bytes += more
        response.conversation_bytes += more
        self.bytes += more
        if response.conversation_bytes > self._settings.conversation_bytes:
            self._drop(response)
            return False
        self._use(response)
        if self._file is not None:
            self._file.save(response, self._settings.ttl_s)
        self._forget_too_many()
        return response.is_kept

    def get(self, owner: str | None, response_id: str) -> KeptResponse | None:
        """Return a response, which counts as a use of it; `None` when there is none (any more)."""
        self.forget_old()
        found = self._kept.get((owner, response_id))
        if found is not None:
            self._use(found)
            if self._file is not None:
                self._file.prolong(found, self._settings.ttl_s)
        return found

    def delete(self, owner: str | None, response_id: str) -> bool:
        """Forget a response; returns whether there was one. Those that go on from it keep what was said in it."""
        found = self._kept.get((owner, response_id))
        if found is None:
            return False
        self._drop(found)
        return True

    def forget_old(self) -> None:
        """Forget those whose time is up."""
        now = self._clock()
        # In the order of their time, for it is the same for all.
        while self._kept and (first := next(iter(self._kept.values()))).expires <= now:
            self._drop(first)

    def _use(self, response: KeptResponse) -> None:
        response.expires = self._clock() + self._settings.ttl_s
        self._kept.move_to_end((response.owner, response.id))

    def _forget_too_many(self) -> None:
        while self._kept and (len(self._kept) > self._settings.limit or self.bytes > self._settings.max_bytes):
            self._drop(next(iter(self._kept.values())))

    def _drop(self, response: KeptResponse) -> None:
        del self._kept[response.owner, response.id]
        response.is_kept = False
        if response.followers and self._file is not None:
            self._file.hide(response)
        self._free(response)

    def _go_on_from(self, before: KeptResponse) -> None:
        """Hold what was said before, some of which may have been forgotten since the request was read."""
        each: KeptResponse | None = before
        while each is not None:
            each.followers += 1
            if not each.is_gone:
                return
            each.is_gone = False
            self.bytes += each.bytes
            if self._file is not None:
                self._file.save(each, self._settings.ttl_s)
                self._file.hide(each)
            each = each.before

    def _free(self, response: KeptResponse) -> None:
        """Let go of a response, and of those before it, that nobody reads nor goes on from."""
        last: KeptResponse | None = response
        while last is not None and not last.is_kept and not last.followers:
            last.is_gone = True
            self.bytes -= last.bytes
            if self._file is not None:
                self._file.delete(last)
            last = last.before
            if last is not None:
                last.followers -= 1


def _size_of_answer(response: KeptResponse) -> int:
    size = len(msgspec.json.encode(response.body)) + sum(map(size_of_item, response.items))
    return size + (size_of((response.answered,)) if response.answered is not None else 0)


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def size_of_item(item: Mapping[str, Any]) -> int:
    """Return how many bytes of memory an item of a response takes, about."""
    return _ITEM_BYTES + getsizeof(item.get("arguments", "")) + sum(map(_size_of_part, item.get("content", ())))


def _size_of_part(part: Mapping[str, Any]) -> int:
    return getsizeof(part.get("text", "")) + _BYTES * len(part.get("logprobs", ()))
