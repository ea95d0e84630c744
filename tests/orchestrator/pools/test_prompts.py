"""A task's messages become a prompt once per template, and never where that keeps others waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapter_api import DeadlineExceeded, End, Error, InvalidRequest, Message, TaskRequest, TokenStream
from adapter_api.testing import collect
from adapter_kit.chat_template import Template
from orchestrator import Orchestrator, OrchestratorSettings
from tests.orchestrator.pools.test_fit import asked
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-033")]

LITTLE, LARGE = "hi", "hi" * 50_000


class Counting:
    """A template that says where it was run; `gate` holds it there, `refusal` is what it says of all messages."""

    takes_tools = takes_variables = False
    text = ""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.threads: list[int] = []
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.refusal = ""

    def render(self, task: TaskRequest) -> str:
        self.threads.append(threading.get_ident())
        self.began.set()
        assert self.gate.wait(30)
        if self.refusal:
            raise InvalidRequest(self.refusal)
        return f"{self.name}:{(task.messages or ())[0].text[:2]}"


class Templates:
    """Makes a template of each pool's setting, which is its name; remembers them in their order."""

    def __init__(self) -> None:
        self.made: list[Counting] = []

    def read(self, setting: str | Path | None, variables: Mapping[str, Any]) -> Template:
        self.made.append(Counting(str(setting)))
        return self.made[-1]


def host(templates: Templates, *pools: dict[str, Any], **options: Any) -> Orchestrator:
    plugins = plugin_host(text="tests.orchestrator.pools.test_fit:TextOnly")
    one = {"adapter": "text", "replicas": [{"id": "r0", "slots": 1, "options": options}]}
    fields = [{**one, "chat_template": f"{{{{ {each['id']} }}}}", **each} for each in pools or ({"id": "p"},)]
    settings = OrchestratorSettings.parse({"pools": fields, "read_environment": False})
    return Orchestrator(settings, plugins=plugins, template_of=templates.read)


def chat(text: str, **fields: Any) -> TaskRequest:
    return TaskRequest(model="mock", messages=(Message(role="user", content=text),), max_tokens=1, **fields)


async def admitted(orchestrator: Orchestrator, task: TaskRequest) -> TokenStream:
    return await orchestrator.admit(task)


async def accepted(orchestrator: Orchestrator, task: TaskRequest) -> TokenStream:
    return orchestrator.accept(task)


@pytest.mark.parametrize("text", [LITTLE, LARGE], ids=["little", "large"])
@pytest.mark.parametrize("take", [admitted, accepted])
async def test_a_task_is_rendered_once_and_in_a_thread_if_it_is_large(take: Any, text: str) -> None:
    templates = Templates()
    async with host(templates) as orchestrator:
        events = await collect(await take(orchestrator, chat(text)))

        assert isinstance(events[-1], End)
        assert asked(orchestrator, "p").prompt == "{{ p }}:hi"
    (used,) = templates.made
    assert len(used.threads) == 1
    assert (used.threads[0] != threading.get_ident()) == (text == LARGE)


async def test_a_prompt_is_nothing_for_a_template() -> None:
    templates = Templates()
    async with host(templates) as orchestrator:
        await collect(await orchestrator.admit(TaskRequest(model="mock", prompt=LARGE, max_tokens=1)))

    assert templates.made[0].threads == []


async def test_large_messages_that_a_template_refuses_are_refused_on_arrival_or_in_their_stream() -> None:
    templates = Templates()
    async with host(templates) as orchestrator:
        templates.made[0].refusal = "it takes no such messages"
        with pytest.raises(InvalidRequest, match="no such messages"):
            await orchestrator.admit(chat(LARGE, job_id="j"))
        assert orchestrator.task("j") is None

        events = await collect(orchestrator.submit(chat(LARGE)))
        assert isinstance(events[-1], Error)
        assert (events[-1].code, events[-1].message) == ("invalid_request", "it takes no such messages")
        assert orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3055-035")
@pytest.mark.parametrize("text", [LITTLE, LARGE], ids=["little", "large"])
async def test_a_task_that_waits_while_a_reload_changes_its_template_is_rendered_by_the_new_one(text: str) -> None:
    templates = Templates()
    async with host(templates, delay_s=30.0) as orchestrator:
        first = orchestrator.submit(TaskRequest(model="mock", prompt="first", max_tokens=1))
        reading = asyncio.create_task(collect(first))
        await eventually(lambda: orchestrator.pools[0].in_flight == 1)
        waiting = await orchestrator.admit(chat(text))
        await orchestrator.reload(orchestrator.settings)
        second = asyncio.create_task(collect(waiting))
        await first.aclose()
        await reading
        await eventually(lambda: asked(orchestrator, "p").prompt != "first")
        await waiting.aclose()
        await second

    before, after = templates.made
    assert (len(before.threads), len(after.threads)) == (1, 1)


async def test_a_reload_while_a_task_is_rendered_has_it_rendered_by_the_new_template() -> None:
    templates = Templates()
    async with host(templates) as orchestrator:
        templates.made[0].gate.clear()
        try:
            reading = asyncio.create_task(collect(orchestrator.submit(chat(LARGE))))
            assert await asyncio.to_thread(templates.made[0].began.wait, 30)
            await orchestrator.reload(orchestrator.settings)
        finally:
            templates.made[0].gate.set()
        events = await reading

    assert isinstance(events[-1], End)
    assert [len(each.threads) for each in templates.made] == [1, 1]


@pytest.mark.spec("ORCH-3065-001")
@pytest.mark.parametrize("text", [LITTLE, LARGE], ids=["little", "large"])
async def test_a_shadows_copy_is_rendered_by_the_shadows_template(text: str) -> None:
    templates = Templates()
    async with host(templates, {"id": "p"}, {"id": "s", "shadow_of": "p", "shadow_percent": 100}) as orchestrator:
        await collect(await orchestrator.admit(chat(text)))
        await eventually(lambda: orchestrator.rollout_report().agreements[0].compared == 1)

        assert asked(orchestrator, "p").prompt == "{{ p }}:hi"
        assert asked(orchestrator, "s").prompt == "{{ s }}:hi"
    assert [len(each.threads) for each in templates.made] == [1, 1]


@pytest.mark.spec("ORCH-3060-001")
async def test_cancelling_a_task_that_is_rendered_waits_for_no_thread() -> None:
    templates = Templates()
    async with host(templates) as orchestrator:
        templates.made[0].gate.clear()
        try:
            reading = asyncio.create_task(collect(orchestrator.submit(chat(LARGE, job_id="j"))))
            assert await asyncio.to_thread(templates.made[0].began.wait, 30)
            with anyio.fail_after(10):
                receipt = await orchestrator.cancel("j")
                events = await reading
            in_flight = orchestrator.pools[0].in_flight
        finally:
            templates.made[0].gate.set()

    assert (receipt.found, receipt.acknowledged, in_flight) == (True, True, 0)
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "cancelled"


async def test_who_waits_too_long_for_others_messages_is_told_so() -> None:
    templates = Templates()
    async with host(templates) as orchestrator:
        templates.made[0].gate.clear()
        try:
            with pytest.raises(DeadlineExceeded, match="the messages were not a prompt within") as late:
                await orchestrator.admit(chat(LARGE, timeout_s=0.05))
        finally:
            templates.made[0].gate.set()

    assert late.value.stage == "queue"
