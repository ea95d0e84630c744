"""Where templates run: on the event loop what is done in a moment, all else in a thread beside it.

    prompt = await rendered(task, lambda: template.render(task))

A task with little text is tried on the loop first, where its template has `MOMENT_S` of processor time; whatever takes
longer, for whichever reason, is done again in a thread. Who stops waiting for a thread leaves it at work: its template
ends by its own bounds, and there are `_THREADS` threads in all, so that more of them cannot be left behind.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from adapter_api import TaskRequest
from adapter_kit.chat_template.bounds import TakesLong, at_once

T = TypeVar("T")

MOMENT_S = 0.01
"""Seconds of processor time that the event loop may stand still for a template."""
_LITTLE = 1 << 15
"""Characters that are dealt with in less time than a thread takes to start."""
_FEW_MESSAGES = 256
_EACH = 16
"""What a part, a call or a value of JSON weighs beside its characters."""
_THREADS = 2
"""More only get in each other's way, and in the loop's: Python runs one at a time."""

_beside = ThreadPoolExecutor(_THREADS, thread_name_prefix="chat-template")


async def rendered(task: TaskRequest, render: Callable[[], T]) -> T:
    """Return what `render` returns, which makes a prompt of the task and does nothing else; raises what it raises."""
    try:
        return render_at_once(task, render)
    except TakesLong:
        return await render_beside(render)


def render_at_once(task: TaskRequest, render: Callable[[], T]) -> T:
    """Return what `render` returns, if that is a matter of a moment; raises `TakesLong` otherwise."""
    if not _is_little(task):
        raise TakesLong
    with at_once(MOMENT_S):
        return render()


async def render_beside(render: Callable[[], T]) -> T:
    """Return what `render` returns, which runs in a thread. To be cancelled at any time; see above."""
    return await get_running_loop().run_in_executor(_beside, render)


def _is_little(task: TaskRequest) -> bool:
    if len(task.messages or ()) > _FEW_MESSAGES:
        return False
    left = _LITTLE - len(task.prompt or "")
    for weight in _weights(task):
        left -= weight
        if left < 0:
            return False
    return True


def _weights(task: TaskRequest) -> Iterator[int]:
    """Yield what a task's texts weigh, piece by piece, so that nobody looks at more of them than need be."""
    for message in task.messages or ():
        content = message.content
        if isinstance(content, str):
            yield len(content)
        else:
            for part in content or ():
                yield _EACH + (len(part.text) if part.type == "text" else 0)
        for call in message.tool_calls:
            yield _EACH + len(call.arguments)
    for tool in task.tools:
        yield len(tool.description or "")
        yield from _weights_of(tool.parameters)
    yield from _weights_of(task.chat_template_kwargs)


def _weights_of(value: Any) -> Iterator[int]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            yield sum(map(len, each))
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
        yield _EACH + (len(each) if isinstance(each, str) else 0)
