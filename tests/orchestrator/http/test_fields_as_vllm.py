"""What becomes of fields that change an answer, beside vLLM's server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from adapter_api import End, EngineProps, InvalidRequest, Started, TaskRequest, Token, TokenEvent, Unsupported
from adapter_api.testing import MockAdapter
from orchestrator.http.openai_requests import parse_chat, parse_completion
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object"}


def chat_of(**fields: Any) -> TaskRequest:
    return parse_chat({"model": "m", "messages": USER, **fields}, {}).task


def completion_of(**fields: Any) -> TaskRequest:
    return parse_completion({"model": "m", "prompt": "Hello", **fields}, {}).task


@pytest.mark.spec("ORCH-3077-004")
async def test_a_form_that_sends_text_only_is_understood(serve: Serve) -> None:
    body = {
        "model": "mock", "messages": USER, "max_tokens": "2", "temperature": "0.5", "stream": "false", "n": 1.0,
        "session_id": "",
    }  # fmt: skip
    async with serve({"reply": "one two three"}) as host:
        answer = await host.client.post("/v1/chat/completions", json=body)
        refused = await host.client.post("/v1/chat/completions", json={**body, "max_tokens": "two"})

    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "one two")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")


@pytest.mark.spec("ORCH-3077-004")
def test_a_seed_below_nothing_is_a_seed_like_another() -> None:
    assert chat_of(seed=-5).seed == chat_of(seed=-5).seed != chat_of(seed=-6).seed
    assert chat_of(top_k=10**12).top_k == 0
    with pytest.raises(InvalidRequest, match="seed"):
        chat_of(seed=-(2**63) - 1)


@pytest.mark.spec("ORCH-3077-005")
@pytest.mark.parametrize("fields", [
    {"cache_salt": "tenant-1"}, {"spaces_between_special_tokens": False}, {"watermarking": True},
    {"ec_transfer_params": {"a": 1}}, {"media_io_kwargs": {"image": {"a": 1}}},
])  # fmt: skip
def test_what_only_an_engine_can_keep_goes_to_it(fields: dict[str, Any]) -> None:
    [name] = fields
    assert list(chat_of(**fields).parameters) == list(completion_of(**fields).parameters) == [f"engine.{name}"]


@pytest.mark.spec("ORCH-3077-005")
def test_special_tokens_are_an_engine_s_where_they_are_not_its_habit() -> None:
    assert not chat_of(add_special_tokens=False).parameters
    assert not completion_of(add_special_tokens=True).parameters
    assert dict(chat_of(add_special_tokens=True).parameters) == {"engine.add_special_tokens": True}
    assert dict(completion_of(add_special_tokens=False).parameters) == {"engine.add_special_tokens": False}


@pytest.mark.spec("ORCH-3077-005")
@pytest.mark.parametrize("fields, param", [
    ({"prompt_logprobs": -2}, "prompt_logprobs"), ({"prompt_logprobs": -1, "stream": True}, "prompt_logprobs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
    ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "x"}}, "structured_outputs.whitespace_pattern"),
    ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}}, "structured_outputs.disable_any"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
])  # fmt: skip
def test_what_looks_like_nothing_and_asks_for_something_is_refused(fields: dict[str, Any], param: str) -> None:
    for parse in (chat_of, completion_of):
        with pytest.raises((InvalidRequest, Unsupported), match=f"^'{param}"):
            parse(**fields)


@pytest.mark.spec("ORCH-3077-005")
def test_any_json_is_a_format_too() -> None:
    ways: list[dict[str, Any]] = [
        {"structured_outputs": {"json": {}, "whitespace_pattern": None}}, {"guided_json": {}},
    ]  # fmt: skip
    for fields in ways:
        found = chat_of(**fields).response_format
        assert found is not None
        assert (found.type, found.json_schema) == ("json_schema", {})


@pytest.mark.spec("ORCH-3077-007")
@pytest.mark.parametrize("path, body, prefix", [
    ("chat/completions", {"messages": USER}, "chatcmpl-"), ("completions", {"prompt": "Hello"}, "cmpl-"),
])  # fmt: skip
async def test_an_answer_has_the_id_that_its_request_came_with(
    serve: Serve, path: str, body: dict[str, Any], prefix: str
) -> None:
    async with serve() as host:

        async def ids(fields: dict[str, Any], **headers: str) -> list[str]:
            asked = {"model": "mock", **body, **fields}
            whole = await host.client.post(f"/v1/{path}", json=asked, headers=headers)
            streamed = await host.client.post(f"/v1/{path}", json={**asked, "stream": True}, headers=headers)
            first = streamed.text.split("\n\n")[0].removeprefix("data: ")
            return [whole.json()["id"], json.loads(first)["id"]]

        assert await ids({"request_id": "mine"}) == [f"{prefix}mine"] * 2
        assert await ids({"request_id": "mine"}, **{"X-Request-Id": "yours"}) == [f"{prefix}yours"] * 2
        assert len({*await ids({}), *await ids({"request_id": ""}), *await ids({"request_id": None})}) == 6


@pytest.mark.spec("ORCH-3077-008")
@pytest.mark.parametrize("named", [{}, {"model": ""}, {"model": None}])
async def test_where_there_is_one_model_only_it_need_not_be_named(serve: Serve, named: dict[str, Any]) -> None:
    body = {"messages": USER, "n": 2, **named}
    async with serve() as host:
        answer = await host.client.post("/v1/chat/completions", json=body)
    async with serve(pool={"served_as": {"mock": ["a", "b"]}}) as host:
        refused = await host.client.post("/v1/chat/completions", json=body)

    assert (answer.status_code, answer.json()["model"], len(answer.json()["choices"])) == (200, "mock", 2)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


@pytest.mark.spec("ORCH-3077-008")
@pytest.mark.parametrize("named", [{}, {"model": ""}, {"model": None}])
async def test_nor_need_it_be_for_responses(serve: Serve, named: dict[str, Any]) -> None:
    body = {"input": "Hi", **named}
    async with serve() as host:
        answer = await host.client.post("/v1/responses", json=body)
    async with serve(pool={"served_as": {"mock": ["a", "b"]}}) as host:
        refused = await host.client.post("/v1/responses", json=body)

    assert (answer.status_code, answer.json()["model"]) == (200, "mock")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


class Particular(MockAdapter):
    """Finds fault with a field, in vLLM's words."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        raise InvalidRequest("model 'm': temperature must be in [0, 2], got 2.1. (parameter=temperature, value=2.1)")
        yield  # a generator


@pytest.mark.spec("ORCH-3073-012")
async def test_a_field_that_the_engine_finds_at_fault_is_named(serve: Serve) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_fields_as_vllm:Particular")
    async with serve(plugins=plugins) as host:
        refused = await host.client.post("/v1/completions", json={"model": "mock", "prompt": "Hi"})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")


@pytest.mark.spec("ORCH-3064-024")
async def test_a_byte_order_mark_is_passed_over(serve: Serve) -> None:
    body = b'\xef\xbb\xbf{"model": "mock", "prompt": "Hi"}'
    async with serve() as host:
        answer = await host.client.post("/v1/completions", content=body)

    assert answer.status_code == 200


@pytest.mark.spec("ORCH-3073-011")
def test_what_a_model_thought_may_come_back_as_a_part_of_what_it_said() -> None:
    said = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes"}]}

    task = chat_of(messages=[*USER, said, *USER])

    assert task.messages is not None
    assert [(each.text, each.reasoning) for each in task.messages] == [
        ("Hello", None), ("Yes", "Hm."), ("Hello", None)
    ]  # fmt: skip


class Stopping(MockAdapter):
    """Says which of its marks ended the answer."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        yield Token(0, "a")
        yield End(finish_reason="stop", stop_reason="###")


@pytest.mark.spec("ORCH-3077-009")
async def test_the_mark_that_ended_an_answer_is_told(serve: Serve) -> None:
    asked = {"model": "mock", "messages": USER}
    async with serve(plugins=plugin_host(mock="tests.orchestrator.http.test_fields_as_vllm:Stopping")) as host:
        whole = (await host.client.post("/v1/chat/completions", json=asked)).json()
        streamed = await host.client.post("/v1/chat/completions", json={**asked, "stream": True})
    async with serve() as host:
        silent = (await host.client.post("/v1/chat/completions", json=asked)).json()

    last = json.loads(streamed.text.split("\n\n")[-3].removeprefix("data: "))
    assert [each["choices"][0]["stop_reason"] for each in (whole, last, silent)] == ["###", "###", None]


class Sized(MockAdapter):
    """Tells how long a sequence may be."""

    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(msgspec.structs.replace(model, max_tokens=2048) for model in props.models)
        return msgspec.structs.replace(props, models=models)


@pytest.mark.spec("ORCH-3073-012")
async def test_a_model_says_how_long_a_sequence_may_be_where_its_engine_tells_it(serve: Serve) -> None:
    async with serve(plugins=plugin_host(mock="tests.orchestrator.http.test_fields_as_vllm:Sized")) as host:
        [sized] = (await host.client.get("/v1/models")).json()["data"]
    async with serve() as host:
        silent = (await host.client.get("/v1/models/mock")).json()

    assert (sized["max_model_len"], sized["parent"], sized["permission"]) == (2048, None, [])
    assert silent["max_model_len"] is None
