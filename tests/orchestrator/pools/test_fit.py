"""How a model takes a task, where pools and replicas that serve it differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapter_api import (
    Capability,
    ConfigurationError,
    End,
    EngineProps,
    ImagePart,
    InvalidRequest,
    Message,
    ModelProps,
    TaskRequest,
    TextPart,
    Unsupported,
)
from adapter_api.testing import MockAdapter, collect
from adapter_kit.chat_template import read_chat_template
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.config.settings import PoolSettings
from orchestrator.pools.demand import Demand
from orchestrator.pools.fit import fit
from orchestrator.pools.prompts import Prompts
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio

TEXT, MESSAGES, IMAGES = Capability.TEXT, Capability.MESSAGES, Capability.IMAGES
IMAGE = ImagePart(data=b"\x89PNG\r\n\x1a\n")
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def chat(**fields: Any) -> TaskRequest:
    return TaskRequest(model="mock", messages=(Message(role="user", content="hi"),), max_tokens=1, **fields)


def picture() -> TaskRequest:
    return TaskRequest(model="mock", messages=(Message(role="user", content=(TextPart(text="what?"), IMAGE)),))


def model(*capabilities: Capability, **fields: Any) -> ModelProps:
    return ModelProps(name="mock", capabilities=frozenset(capabilities), **fields)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.jinja"
    path.write_text(TEMPLATE)
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def unmet(task: TaskRequest, props: ModelProps | None) -> tuple[str, ...]:
    return Demand.of(task).unmet(props)


def pool(path: Path | None = None) -> PoolSettings:
    return PoolSettings.model_validate({"adapter": "mock", "replicas": [{"id": "r0"}], "chat_template": path})


@pytest.mark.spec("ORCH-3064-012")
@pytest.mark.parametrize("capabilities, named, prompt", [
    ((TEXT,), False, "user: hi\n\nassistant:"),
    ((TEXT,), True, "<user>hi<assistant>"),
    ((TEXT, MESSAGES), False, None),
    ((TEXT, MESSAGES), True, "<user>hi<assistant>"),
    ((MESSAGES,), True, None),
    ((), True, None),
])  # fmt: skip
def test_messages_become_text_where_the_model_or_the_settings_want_it(
    template: Path, capabilities: tuple[Capability, ...], named: bool, prompt: str | None
) -> None:
    settings = pool(template if named else None)

    task = chat()
    fitted = fit(task, model(*capabilities), settings, read_chat_template(settings.chat_template), Prompts(task))

    assert fitted.prompt == prompt
    assert (fitted.messages is None) == (prompt is not None)


@pytest.mark.spec("ORCH-3073-007")
def test_tools_that_are_not_to_be_called_are_shown_by_an_engine_that_takes_tools_and_by_nobody_else() -> None:
    task = chat(tools=({"name": "add"},), tool_choice="none")
    offers = [(MESSAGES, Capability.TOOLS), (MESSAGES,), (TEXT,)]

    fitted = [fit(task, model(*each), pool(), read_chat_template(None), Prompts(task)) for each in offers]

    assert [(len(each.tools), each.tool_choice) for each in fitted] == [(1, "none"), (0, None), (0, None)]


@pytest.mark.spec("ORCH-3064-031")
def test_images_go_beside_the_prompt_with_marks_in_their_places_or_are_refused(template: Path) -> None:
    task, plain = picture(), read_chat_template(None)
    marks = "{% for p in messages[0].content %}{{ p.text if p.type == 'text' else '<image>' }}{% endfor %}"
    write(template, marks)
    named, marking = pool(template), read_chat_template(template)

    for capabilities in ((TEXT, MESSAGES, IMAGES), (TEXT, IMAGES)):
        fitted = fit(task, model(*capabilities), named, marking, Prompts(task))
        assert (fitted.prompt, fitted.prompt_images, fitted.messages) == ("what?<image>", (IMAGE,), None)
    assert fit(task, model(TEXT, MESSAGES, IMAGES), pool(), plain, Prompts(task)) is task
    assert fit(task, model(TEXT, IMAGES), pool(), plain, Prompts(task)).prompt_images == (IMAGE,)
    with pytest.raises(Unsupported, match="takes text only"):
        fit(task, model(TEXT), named, marking, Prompts(task))
    with pytest.raises(Unsupported, match="no place for images"):
        fit(task, model(TEXT, IMAGES), named, read_chat_template(TEMPLATE), Prompts(task))


def test_what_is_not_known_of_a_model_is_not_held_against_it() -> None:
    assert not unmet(picture(), None)
    assert not unmet(picture(), model())
    assert not unmet(chat(), model(TEXT)), "a template makes text of messages"
    assert unmet(picture(), model(TEXT, MESSAGES))
    assert unmet(chat().model_copy(update={"max_tokens": 9}), model(TEXT, max_tokens=8))


class _Capable(MockAdapter):
    capabilities = frozenset({TEXT})

    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(msgspec.structs.replace(each, capabilities=self.capabilities) for each in props.models)
        return msgspec.structs.replace(props, models=models, capabilities=self.capabilities)


class TextOnly(_Capable):
    pass


class Seeing(_Capable):
    capabilities = frozenset({TEXT, MESSAGES, IMAGES})


class OfVllm(_Capable):
    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(msgspec.structs.replace(each, dialect="vllm") for each in props.models)
        return msgspec.structs.replace(props, models=models)


def host(*pools: dict[str, Any]) -> Orchestrator:
    plugins = plugin_host(
        text="tests.orchestrator.pools.test_fit:TextOnly", seeing="tests.orchestrator.pools.test_fit:Seeing",
        mock="adapter_api.testing:MockAdapter", vllm="tests.orchestrator.pools.test_fit:OfVllm",
    )  # fmt: skip
    fields = [{"replicas": [{"id": "r0"}], **each} for each in pools]
    settings = OrchestratorSettings.parse({"pools": fields, "read_environment": False})
    return Orchestrator(settings, plugins=plugins, template_of=read_chat_template)


def asked(orchestrator: Orchestrator, pool_id: str, replica_id: str = "r0") -> TaskRequest:
    adapter = adapter_of(orchestrator, replica_id, pool_id)
    assert isinstance(adapter, MockAdapter)
    return adapter.submitted[-1]


@pytest.mark.spec("ORCH-3064-012")
async def test_each_pool_makes_text_by_its_own_template(template: Path) -> None:
    async with host(
        {"id": "whole", "adapter": "seeing"},
        {"id": "plain", "adapter": "text"},
        {"id": "own", "adapter": "text", "chat_template": str(template)},
    ) as orchestrator:
        for pool_id in ("whole", "plain", "own"):
            await collect(orchestrator.accept(chat(), pool_id=pool_id))

        assert asked(orchestrator, "whole").messages == chat().messages
        assert asked(orchestrator, "plain").prompt == "user: hi\n\nassistant:"
        assert asked(orchestrator, "own").prompt == "<user>hi<assistant>"


async def test_a_task_that_moves_is_fitted_to_the_replica_it_moves_to() -> None:
    replicas = [{"id": "r0", "adapter": "seeing", "options": {"fail": "connect_failed"}}, {"id": "r1"}]
    async with host({"id": "p", "adapter": "text", "replicas": replicas}) as orchestrator:
        events = await collect(orchestrator.submit(chat()))

        assert isinstance(events[-1], End)
        assert asked(orchestrator, "p", "r1").prompt == "user: hi\n\nassistant:"


async def test_a_task_goes_to_a_pool_whose_model_is_capable_of_it_whatever_the_weights() -> None:
    async with host(
        {"id": "text", "adapter": "text", "weight": 1000}, {"id": "seeing", "adapter": "seeing", "weight": 1}
    ) as orchestrator:
        tasks = [picture() for _ in range(5)]
        for task in tasks:
            await collect(orchestrator.submit(task))

        placed = {status.pool_id for task in tasks if (status := orchestrator.task(task.job_id)) is not None}
        assert placed == {"seeing"}


async def test_an_image_that_no_pools_model_takes_is_refused_on_arrival() -> None:
    async with host({"id": "p", "adapter": "text"}) as orchestrator:
        with pytest.raises(Unsupported, match="takes text only"):
            orchestrator.accept(picture())


@pytest.mark.spec("ORCH-3055-035")
async def test_a_reload_reads_templates_anew_and_one_that_is_broken_changes_nothing(template: Path) -> None:
    async with host({"id": "p", "adapter": "text", "chat_template": str(template)}) as orchestrator:
        write(template, "{% for")
        with pytest.raises(ConfigurationError, match="not valid jinja2"):
            await orchestrator.reload(orchestrator.settings)
        await collect(orchestrator.submit(chat()))
        before = asked(orchestrator, "p").prompt

        write(template, "NEW {{ messages[0].content }}")
        await orchestrator.reload(orchestrator.settings)
        await collect(orchestrator.submit(chat()))
        after = asked(orchestrator, "p").prompt

    assert (before, after) == ("<user>hi<assistant>", "NEW hi")


@pytest.mark.spec("ORCH-3064-012")
async def test_messages_that_the_template_refuses_are_refused_on_arrival_in_words_of_ours(template: Path) -> None:
    write(template, "{{ raise_exception(messages[0].content) }}")
    async with host({"id": "p", "adapter": "text", "chat_template": str(template)}) as orchestrator:
        with pytest.raises(InvalidRequest, match="does not take these messages") as refused:
            orchestrator.accept(chat(job_id="j"))

        assert "hi" not in refused.value.message
        assert orchestrator.task("j") is None
        assert orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3073-019")
@pytest.mark.parametrize("adapter, parser, kept", [
    ("vllm", "lfm2", {"vllm.skip_special_tokens": False}), ("vllm", "hermes", {}), ("text", "lfm2", {}),
])  # fmt: skip
async def test_vllm_is_asked_for_marks_of_calls_that_are_special_tokens(
    template: Path, adapter: str, parser: str, kept: dict[str, Any]
) -> None:
    write(template, "{{ tools }}" + TEMPLATE)
    pool = {"id": "p", "adapter": adapter, "chat_template": template, "tool_parser": parser}
    tools: Any = ({"name": "add", "parameters": {"type": "object"}},)
    async with host(pool) as orchestrator:
        await collect(orchestrator.submit(chat(tools=tools)))
        assert dict(asked(orchestrator, "p").parameters) == kept
