"""An adapter's chat template and a pool's make the same prompt, and it travels with its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapter_api import Capability, End, EngineProps, Error, TaskRequest
from adapter_api.testing import MockAdapter, collect
from adapter_kit.chat_template import read_chat_template
from orchestrator import Orchestrator, OrchestratorSettings
from tests.adapter_kit import families
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import plugin_host
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.testing import FakeTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-028", "ORCH-3064-031")]

TEXT_AND_IMAGES = frozenset({Capability.TEXT, Capability.STREAMING, Capability.IMAGES})


class Seeing(MockAdapter):
    """Takes one text, and images beside it."""

    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(msgspec.structs.replace(each, capabilities=TEXT_AND_IMAGES) for each in props.models)
        return msgspec.structs.replace(props, models=models)

    def _check(self, task: TaskRequest) -> None:
        super()._check(task.model_copy(update={"prompt_images": ()}))


async def by_the_adapter(task: TaskRequest, **override: Any) -> dict[str, tuple[bytes, ...]] | Error:
    """Return what the vLLM model of a Triton was sent, by input."""
    with FakeTriton() as fake:
        model = fake.model("m").signature("vllm").respond_with_text("x")
        settings = TritonSettings.model_validate({"url": fake.grpc_url, "models": {"m": override}})
        async with TritonAdapter(settings) as adapter:
            last = (await collect(adapter.submit(task)))[-1]
        return last if isinstance(last, Error) else texts_of(model.requests[-1])


async def by_the_host(task: TaskRequest, **pool: Any) -> TaskRequest | Error:
    """Return the task as the host's adapter got it."""
    plugins = plugin_host(mock="tests.orchestrator.test_same_prompt:Seeing")
    fields = {"adapter": "mock", "replicas": [{"id": "r0", "options": {"models": ["m"]}}], **pool}
    settings = OrchestratorSettings.parse({"pools": [fields], "read_environment": False})
    async with Orchestrator(settings, plugins=plugins, template_of=read_chat_template) as orchestrator:
        last = (await collect(orchestrator.submit(task)))[-1]
        adapter = adapter_of(orchestrator, "r0", "default")
        assert isinstance(adapter, MockAdapter)
        return last if isinstance(last, Error) else adapter.submitted[-1]


def texts_of(request: Any) -> dict[str, tuple[bytes, ...]]:
    return {name: tuple(request.inputs[name].elements()) for name in ("text_input", "image") if name in request.inputs}


@pytest.fixture(params=["text", "file", "folder"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return what makes a setting of a template: as a text, in a tokenizer's configuration, in a folder."""

    def make(source: str) -> dict[str, Any]:
        if request.param == "text":
            return {"chat_template": source, "chat_template_kwargs": families.TOKENS}
        path = tmp_path / "tokenizer_config.json"
        path.write_bytes(msgspec.json.encode({"chat_template": source, **families.TOKENS}))
        return {"chat_template": str(path if request.param == "file" else tmp_path)}

    return make


@pytest.mark.parametrize("name", families.PROMPTS)
async def test_both_send_the_prompt_of_the_family_byte_for_byte(name: str, setting: Any) -> None:
    family, case = name.split("/")
    task, chosen = families.task_of(case), setting(families.FAMILIES[family])

    sent = await by_the_adapter(task, **chosen)
    got = await by_the_host(task, **chosen)

    assert not isinstance(sent, Error)
    assert not isinstance(got, Error)
    assert sent["text_input"] == (families.PROMPTS[name].encode(),)
    assert got.prompt == families.PROMPTS[name]
    assert sent.get("image", ()) == tuple(image.data.encode() for image in got.images)
    assert got.images == task.images


async def test_both_have_one_plain_layout() -> None:
    task = families.task_of("chat")
    sent, got = await by_the_adapter(task), await by_the_host(task)

    assert not isinstance(sent, Error)
    assert not isinstance(got, Error)
    assert got.prompt is not None
    assert sent["text_input"] == (got.prompt.encode(),)
    assert got.prompt.startswith("system: Be brief, & <kind>.\n\nuser: ")
    assert got.prompt.endswith("\n\nassistant:")


@pytest.mark.parametrize("family, case, code", [
    ("chatml", "pictures", "unsupported"),
    ("mistral", "tools", "unsupported"),
    ("vision", "called", "unsupported"),
])  # fmt: skip
async def test_both_refuse_what_the_template_has_no_place_for(family: str, case: str, code: str) -> None:
    task, source = families.task_of(case), families.FAMILIES[family]

    for refused in (
        await by_the_adapter(task, chat_template=source),
        await by_the_host(task, chat_template=source),
    ):
        assert isinstance(refused, Error)
        assert refused.code == code
        assert "has no place for" in refused.message


async def test_both_tell_a_refusal_in_the_templates_words() -> None:
    turns = [{"role": "user", "content": "one secret"}, {"role": "user", "content": "another secret"}]
    task = TaskRequest.parse({"model": "m", "messages": turns})

    for refused in (
        await by_the_adapter(task, chat_template=families.MISTRAL),
        await by_the_host(task, chat_template=families.MISTRAL),
    ):
        assert isinstance(refused, Error)
        assert refused.code == "invalid_request"
        assert "roles must alternate user/assistant" in refused.message
        assert "secret" not in refused.message


async def test_both_take_values_for_the_template_from_the_settings_and_the_task() -> None:
    source, settings = "{{ messages[0].content }}{{ enable_thinking }}", {"enable_thinking": True}
    plain = families.task_of("chat")
    own = families.task_of("chat", chat_template_kwargs={"enable_thinking": False})

    for task, wanted in ((plain, "True"), (own, "False")):
        sent = await by_the_adapter(task, chat_template=source, chat_template_kwargs=settings)
        got = await by_the_host(task, chat_template=source, chat_template_kwargs=settings)
        assert not isinstance(sent, Error)
        assert not isinstance(got, Error)
        assert sent["text_input"][0].decode().endswith(wanted)
        assert got.prompt is not None
        assert got.prompt.endswith(wanted)
        assert not got.chat_template_kwargs
    for refused in (await by_the_adapter(own), await by_the_host(own)):
        assert isinstance(refused, Error)
        assert refused.code == "unsupported"
        assert "chat_template" in refused.message


async def test_an_adapter_that_has_no_template_refuses_values_for_one() -> None:
    async with MockAdapter() as adapter:
        task = families.task_of("chat", model="mock", chat_template_kwargs={"enable_thinking": False})
        last = (await collect(adapter.submit(task)))[-1]
        taken = (await collect(adapter.submit(families.task_of("chat", model="mock"))))[-1]

    assert isinstance(last, Error)
    assert last.code == "unsupported"
    assert isinstance(taken, End)
