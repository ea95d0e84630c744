"""Many questions at once, bounded, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio

from adapter_api import AdapterError, InvalidRequest
from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.question import ChatQuestion


async def answer_each(
    questions: Iterable[str | ChatQuestion],
    ask: Callable[[ChatQuestion], Awaitable[ChatAnswer]],
    *,
    at_once: int,
) -> list[ChatAnswer | AdapterError]:
    """Return the answer, or the error, of each question in their order; `at_once` are under way."""
    if isinstance(questions, str | bytes | Mapping) or not isinstance(questions, Iterable):
        raise InvalidRequest("a batch is a list of questions: put a single one in brackets")
    found: dict[int, ChatAnswer | AdapterError] = {}
    coming = enumerate(questions)

    async def work() -> None:
        # Each takes the next when it is done with one, so that pictures are read when their turn comes.
        for number, question in coming:
            try:
                found[number] = await ask(question if isinstance(question, ChatQuestion) else ChatQuestion(question))
            except AdapterError as exc:
                found[number] = exc

    try:
        async with anyio.create_task_group() as group:
            for _ in range(at_once):
                group.start_soon(work)
    except ExceptionGroup as failed:
        # What the caller's own iterator raised: as it raised it.
        raise failed.exceptions[0] from None
    return [found[number] for number in range(len(found))]
