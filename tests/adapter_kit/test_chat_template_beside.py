"""A template holds up nobody's event loop, and conversations of ordinary size are far from its bounds."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from adapter_api import InvalidRequest, Message, TaskRequest
from adapter_kit.chat_template import ChatTemplate, TakesLong, bounds, render_at_once, rendered
from tests.adapter_kit.families import FAMILIES, TOKENS, task_of

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-033")]

CUBIC = (
    "{% for a in messages %}{% for b in messages %}{% for c in messages %}{{ c.role }}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
PARTS = "{% for p in messages[0].content %}{{ p.type }}{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"


def conversation(messages: int, characters: int) -> TaskRequest:
    """It begins and ends with the user, as templates demand that look at turns."""
    turns = [
        Message(role=("user", "assistant")[n % 2], content="word " * (characters // 5)) for n in range(messages - 1)
    ]
    return TaskRequest(model="m", messages=(Message(role="system", content="Be brief."), *turns))


def pictures(number: int) -> TaskRequest:
    image = {"type": "image", "data": "iVBORw0KGgo="}
    return TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": [image] * number}]})


def thread_of(task: TaskRequest, source: str = PLAIN) -> int:
    """Where that template was rendered, in the end."""
    seen: list[int] = []
    template = ChatTemplate(source)

    def render() -> str:
        seen.append(threading.get_ident())
        return template.render(task)

    async def run() -> None:
        with suppress(InvalidRequest):
            await rendered(task, render)

    asyncio.run(run())
    return seen[-1]


@pytest.mark.spec("ORCH-3064-029")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_of_two_hundred_messages_is_far_from_the_bounds(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = conversation(200, 2000)
    monkeypatch.setattr(bounds, "STEPS", bounds.STEPS // 20)

    prompt = ChatTemplate(FAMILIES[family], variables=TOKENS).render(task)

    assert len(prompt) > 199 * 1900


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_chat_of_twenty_messages_is_rendered_at_once(family: str) -> None:
    task, template = conversation(20, 500), ChatTemplate(FAMILIES[family], variables=TOKENS)

    assert render_at_once(task, lambda: template.render(task)) == template.render(task)


def test_what_is_little_work_is_done_on_the_loop_and_all_else_in_a_thread() -> None:
    here = threading.get_ident()

    assert thread_of(conversation(20, 500)) == here
    assert thread_of(task_of("called tools"), FAMILIES["chatml"]) == here
    assert thread_of(conversation(20, 5000)) != here, "much text"
    assert thread_of(conversation(1000, 10)) != here, "many messages"
    assert thread_of(pictures(500), PARTS) != here, "each image is looked for in the prompt"
    assert thread_of(conversation(100, 10), CUBIC) != here, "little text, and a template that makes much of it"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"name": "f", "description": "x" * 40_000}]},
        {"tools": [{"name": "f", "parameters": {"enum": ["x"] * 3_000}}]},
        {"chat_template_kwargs": {"documents": ["x" * 40_000]}},
        {"chat_template_kwargs": {"x" * 40_000: 1}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 3_000}]},
        {
            "messages": [
                {
                    "role": "assistant", "content": None,
                    "tool_calls": [{"id": "1", "name": "f", "arguments": "x" * 40_000}],
                }
            ]
        },
    ],
)  # fmt: skip
def test_all_that_a_template_may_look_at_counts(fields: dict[str, object]) -> None:
    task = TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})

    with pytest.raises(TakesLong):
        render_at_once(task, lambda: "never")


async def test_whoever_stops_waiting_goes_at_once_and_leaves_two_threads_at_most() -> None:
    task, go_on, started = conversation(1000, 10), threading.Event(), threading.Semaphore(0)
    running: list[int] = []

    def render() -> str:
        running.append(threading.get_ident())
        started.release()
        assert go_on.wait(30)
        return "late"

    try:
        waiting = [asyncio.create_task(rendered(task, render)) for _ in range(5)]
        for _ in range(2):
            assert await asyncio.to_thread(started.acquire, timeout=30)
        for each in waiting:
            each.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(each) for each in ended] == [asyncio.CancelledError] * 5
        assert len(running) == 2
    finally:
        go_on.set()
    assert await rendered(task, lambda: "next") == "next"
    assert len(running) == 2, "those that had not begun never do"
