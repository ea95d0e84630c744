"""A chat template of the adapter's own: tools go into the prompt, and calls and thoughts come back out of the text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import (
    Capability,
    ConfigurationError,
    Error,
    TaskRequest,
    gather_tool_calls,
)
from adapter_api.events import ToolCallDelta
from adapter_api.testing import collect, find_violation, reasoning_of, text_of
from adapter_clients import ChatClient
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio

TEMPLATE = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}"
    "<assistant>{% if think %}<think>\n{% endif %}"
)
ADD: Any = {
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}
CALL = 'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 20, "b": 22}}\n</tool_call>\n'
AUTO: Any = {"tools": [ADD]}


def settings(url: str, model: str = "m", **override: Any) -> TritonSettings:
    return TritonSettings.model_validate({"url": url, "models": {model: {"chat_template": TEMPLATE, **override}}})


def task(**fields: Any) -> TaskRequest:
    return TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "add 20 22"}], **fields})


async def answer(reply: str, asked: TaskRequest, /, signature: Any = "vllm", **override: Any) -> tuple[list[Any], Any]:
    """Return the events of an answer that comes letter by letter, and the request."""
    with FakeTriton() as fake:
        fake.model("m").signature(signature).respond_with_tokens([*reply])
        async with TritonAdapter(settings(fake.grpc_url, **override)) as adapter:
            events = await collect(adapter.submit(asked))
        assert find_violation(events) is None
        return events, next((each for each in fake.requests if each.model == "m"), None)


@pytest.mark.spec("ORCH-3070-019")
@pytest.mark.parametrize("signature", ["vllm", "trtllm", "text"])
async def test_a_call_in_the_text_comes_as_a_call(signature: str) -> None:
    events, request = await answer(CALL, task(**AUTO, max_tokens=99), signature=signature)

    (call,) = gather_tool_calls(event for event in events if isinstance(event, ToolCallDelta))
    assert (call.name, json.loads(call.arguments)) == ("add", {"a": 20, "b": 22})
    assert text_of(events) == "Let me see.\n"
    assert events[-1].finish_reason == "tool_calls"
    assert request.value("text_input") == "[add]<user>add 20 22<assistant>"


@pytest.mark.spec("ORCH-3073-019")
@pytest.mark.parametrize("asked, parser, kept", [(AUTO, "lfm2", False), (AUTO, "hermes", None), ({}, "lfm2", None)])
async def test_vllm_is_asked_for_marks_that_are_special_tokens(asked: Any, parser: str, kept: bool | None) -> None:
    said = "Hm.<|tool_call_start|>[add(a=20, b=22)]<|tool_call_end|>"
    events, request = await answer(said, task(**asked), tool_parser=parser)

    assert json.loads(request.value("sampling_parameters")).get("skip_special_tokens") is kept
    assert any(isinstance(event, ToolCallDelta) for event in events) == (kept is False)


@pytest.mark.spec("ORCH-3070-019")
@pytest.mark.parametrize(
    "said, asked, override",
    [
        ("It is <tool_ca", AUTO, {}),
        ("It is 42.", AUTO, {}),
        (CALL, {}, {}),
        (CALL, {**AUTO, "tool_choice": "none"}, {}),
        ("<think>", {}, {}),
    ],
)
async def test_what_is_no_call_is_text_to_the_letter(said: str, asked: Any, override: Any) -> None:
    events, _ = await answer(said, task(**asked), **override)

    assert text_of(events) == said
    assert not any(isinstance(event, ToolCallDelta) for event in events)


@pytest.mark.spec("ORCH-3070-020")
@pytest.mark.parametrize(
    "said, begun", [("<think>Twenty.</think>42", False), ("Twenty.</think>42", True), ("Twenty.", True)]
)
async def test_thoughts_come_apart_where_the_settings_say_that_the_model_thinks(said: str, begun: bool) -> None:
    asked = task(chat_template_kwargs={"think": begun})

    events, _ = await answer(said, asked, reasoning_parser="think")
    plain, _ = await answer(said, asked)

    assert reasoning_of(events) == "Twenty."
    assert text_of(events) == ("42" if "42" in said else "")
    assert text_of(plain) == said


@pytest.mark.spec("ORCH-3070-019")
@pytest.mark.parametrize("choice", ["required", "add"])
async def test_a_call_that_has_to_be_made_is_asked_for_as_the_format_of_the_answer(choice: str) -> None:
    arguments = '{"a": 20, "b": 22}'
    events, request = await answer(arguments, task(**AUTO, tool_choice=choice))

    (call,) = gather_tool_calls(event for event in events if isinstance(event, ToolCallDelta))
    assert (call.name, call.arguments) == ("add", arguments)
    assert events[-1].finish_reason == "tool_calls"
    guide = json.loads(json.loads(request.value("sampling_parameters"))["guided_decoding"])
    assert guide["json"]["properties"] == ADD["parameters"]["properties"]


@pytest.mark.spec("ORCH-3070-019")
@pytest.mark.parametrize(
    "asked, override, signature, said",
    [
        ({**AUTO, "tool_choice": "required", "max_tokens": 9}, {}, "text", "takes no response_format"),
        (AUTO, {"tool_parser": "none"}, "vllm", "models.m.tool_parser"),
        (AUTO, {"chat_template": "{{ messages[0].content }}"}, "vllm", "no place for `tools`"),
        (AUTO, {"chat_template": None}, "vllm", "`tools` need a chat_template"),
    ],
)
async def test_tools_that_cannot_be_had_are_refused_before_anything_is_sent(
    asked: Any, override: Any, signature: str, said: str
) -> None:
    events, request = await answer("never", task(**asked), signature=signature, **override)

    assert isinstance(events[-1], Error)
    assert (events[-1].code, said in events[-1].message) == ("unsupported", True), events[-1].message
    assert request is None


@pytest.mark.spec("ORCH-3070-021")
async def test_tools_and_reasoning_are_declared_where_the_settings_bring_them() -> None:
    async def told(**override: Any) -> frozenset[Capability]:
        async with TritonAdapter(settings(fake.grpc_url, **override)) as adapter:
            return (await adapter.model_props("m")).capabilities & {Capability.TOOLS, Capability.REASONING}

    with FakeTriton() as fake:
        fake.model("m").signature("vllm").respond_with_text("x")
        assert await told() == {Capability.TOOLS}
        assert await told(reasoning_parser="think") == {Capability.TOOLS, Capability.REASONING}
        assert await told(tool_parser="none") == frozenset()
        assert await told(chat_template="{{ messages[0].content }}") == frozenset()
        assert await told(chat_template=None, reasoning_parser="think") == {Capability.REASONING}


@pytest.mark.spec("ORCH-3070-021")
@pytest.mark.parametrize("field, value", [("tool_parser", "hermes2"), ("reasoning_parser", "yes"), ("tool_parser", "")])
def test_a_parser_that_there_is_not_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"models\.m\.{field}"):
        TritonSettings.from_env({}, models={"m": {field: value}})


@pytest.mark.live
@pytest.mark.spec("ORCH-3070-019", "ORCH-3070-020")
async def test_a_chat_calls_a_tool_and_gets_its_result_back_on_a_real_server(triton: EmbeddedTriton) -> None:
    """The demo's splitter says its prompt, byte by byte: the template has it say what a model would."""
    speaks = (
        "<think>Add… 🙂</think>{% if messages[-1].role == 'tool' %}It is {{ messages[-1].content }}."
        "{% elif tools %}" + CALL + "{% endif %}"
        "{% for m in messages %}{% if m.tool_calls %}{% endif %}{% endfor %}"  # it has a place for them
    )
    override: Any = {"splitter": {"chat_template": speaks, "reasoning_parser": "think"}}

    async with ChatClient.connect(
        triton.grpc_url, options={"models": override}, model="splitter", max_new_tokens=0
    ) as client:
        first = await client.chat("add 20 22", tools=[ADD])
        second = await client.chat(tool_results={first.tool_calls[0].id: "42"})

    assert (first.text, first.reasoning, first.finish_reason) == ("Let me see.\n", "Add… 🙂", "tool_calls")
    assert [(call.name, json.loads(call.arguments)) for call in first.tool_calls] == [("add", {"a": 20, "b": 22})]
    assert (second.text, second.reasoning, second.tool_calls) == ("It is 42.", "Add… 🙂", ())
