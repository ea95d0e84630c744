"""Whoever points their program from vLLM's server to this host changes the URL and nothing else."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import ContextLengthExceeded, InvalidRequest, Metrics, Started, TaskRequest, TokenEvent
from adapter_api.testing import MockAdapter
from orchestrator.http.openai_requests import parse_chat, parse_completion
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_tasks import mock
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "Hello"}]
ORIGIN = "https://app.example.org"


def chat_of(**fields: Any) -> TaskRequest:
    return parse_chat({"model": "m", "messages": USER, **fields}, {}).task


class Refusing(MockAdapter):
    """Says that it began, and how long it took, before it refuses."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        yield Metrics(tokens_in=5000)
        raise ContextLengthExceeded("the prompt has 5000 tokens, and the model takes 4096")


@pytest.mark.spec("ORCH-3073-009")
@pytest.mark.parametrize("path, body", [("chat/completions", {"messages": USER}), ("completions", {"prompt": "Hi"})])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_before_the_first_output_has_its_status_streamed_or_not(
    serve: Serve, path: str, body: dict[str, Any], stream: bool
) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_from_vllm:Refusing")
    async with serve(plugins=plugins) as host:
        response = await host.client.post(f"/v1/{path}", json={"model": "mock", "stream": stream, **body})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.spec("ORCH-3073-010")
@pytest.mark.parametrize("fields", [
    {"ignore_eos": False}, {"logit_bias": {"0": 0}}, {"use_beam_search": False}, {"length_penalty": 1.0},
    {"skip_special_tokens": True}, {"documents": []}, {"function_call": "auto"}, {"web_search_options": {}},
    {"echo": False}, {"min_p": 0}, {"stop_token_ids": []}, {"audio": None}, {"structured_outputs": {}}, {"n": 1},
    {"request_id": "x"}, {"verbosity": "low"}, {"prompt_cache_retention": "24h"}, {"priority": 3},
    {"stream": True, "stream_options": {"include_usage": True}}, {"seed": -1}, {"add_generation_prompt": None},
    {"stream": True, "stream_options": {"continuous_usage_stats": True}},
    {"prediction": {"type": "content", "content": "Hello"}},
])  # fmt: skip
def test_what_asks_for_nothing_or_says_nothing_of_the_answer_is_taken(fields: dict[str, Any]) -> None:
    asked = chat_of(job_id="j", **fields)
    assert asked == chat_of(job_id="j")


@pytest.mark.spec("ORCH-3073-010")
@pytest.mark.parametrize("fields", [
    {"use_beam_search": True}, {"echo": True}, {"logprob_token_ids": [5]}, {"n": True},
    {"audio": {"v": 1}}, {"return_prompt_text": True}, {"prompt_logprobs": 1},
])  # fmt: skip
async def test_what_would_change_the_answer_is_refused_by_its_name(serve: Serve, fields: dict[str, Any]) -> None:
    async with serve() as host:
        response = await host.client.post("/v1/chat/completions", json={"model": "mock", "messages": USER, **fields})

    [name] = fields
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name
    assert name in response.json()["error"]["message"]


@pytest.mark.spec("ORCH-3073-010")
@pytest.mark.parametrize("fields", [
    {"ignore_eos": 123}, {"ignore_eos": "maybe"}, {"min_p": "half"}, {"min_p": True}, {"skip_special_tokens": 2},
    {"include_stop_str_in_output": [1]}, {"length_penalty": "x"}, {"truncate_prompt_tokens": 1.5}, {"bad_words": "x"},
    {"thinking_token_budget": "9.5"}, {"cache_salt": "a/b"}, {"cache_salt": 5}, {"add_special_tokens": "maybe"},
    {"logit_bias": [1]}, {"logit_bias": {"5": "x"}}, {"logit_bias": {"5": True}},
    {"logit_bias": {"a b": 1}}, {"stop_token_ids": [1, "x"]}, {"stop_token_ids": 5}, {"allowed_token_ids": [True]},
    {"cache_salt": ""}, {"cache_salt": False}, {"stop_token_ids": [-1]}, {"thinking_token_budget": -2},
    {"bad_words": [1]}, {"vllm_xargs": [1]}, {"kv_transfer_params": "x"}, {"truncation_side": "up"},
])  # fmt: skip
def test_what_only_an_engine_can_honour_has_its_form_or_is_refused_by_its_name(fields: dict[str, Any]) -> None:
    [name] = fields
    with pytest.raises(InvalidRequest, match=f"^'{name}' must be "):
        chat_of(**fields)


@pytest.mark.spec("ORCH-3073-011")
@pytest.mark.parametrize("fields", [
    {"ignore_eos": True}, {"min_p": 0.5}, {"min_p": 1}, {"skip_special_tokens": False}, {"length_penalty": 2},
    {"truncate_prompt_tokens": -1}, {"bad_words": ["x"]}, {"thinking_token_budget": 9}, {"logit_bias": {"5": -100}},
    {"stop_token_ids": [1, 2]}, {"allowed_token_ids": [7]}, {"vllm_xargs": {"a": 1}}, {"truncation_side": "left"},
])  # fmt: skip
def test_what_only_an_engine_can_honour_goes_to_it(fields: dict[str, Any]) -> None:
    [name] = fields
    assert list(chat_of(**fields).parameters) == [f"engine.{name}"]


@pytest.mark.spec("ORCH-3073-010")
def test_every_token_may_be_asked_for_in_vllms_word() -> None:
    assert chat_of(job_id="j", top_k=-1) == chat_of(job_id="j", top_k=0)


@pytest.mark.spec("ORCH-3073-010")
def test_an_answer_is_taken_back_in_its_own_parts() -> None:
    parts = [{"type": "output_text", "text": "Well. "}, {"type": "refusal", "refusal": "No."}]
    answer = {"role": "assistant", "content": parts, "reasoning_details": [{"text": "Hm."}], "id": "msg_1"}

    task = chat_of(messages=[*USER, answer, {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}])

    assert [message.text for message in task.messages or ()] == ["Hello", "Well. No.", "Why?"]


TOOLS: Any = [{"type": "function", "function": {"name": name}} for name in ("add", "subtract")]


def allowed(*names: str, **more: Any) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"tools": tools, **more}}


@pytest.mark.spec("ORCH-3073-007")
def test_only_tools_that_are_allowed_are_shown() -> None:
    some = chat_of(tools=TOOLS, tool_choice=allowed("add", mode="auto"))
    one = chat_of(tools=TOOLS, tool_choice=allowed("subtract", mode="required"))

    assert ([tool.name for tool in some.tools], some.tool_choice) == (["add"], "auto")
    assert ([tool.name for tool in one.tools], one.tool_choice) == (["subtract"], "required")


@pytest.mark.spec("ORCH-3073-007")
@pytest.mark.parametrize("choice", [
    allowed("multiply"), allowed("add", mode="some"), {"type": "custom", "custom": {"name": "add"}},
    {"type": "function"}, {"type": "allowed_tools"},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [1]}}, 5, ["add"],
])  # fmt: skip
async def test_a_choice_among_tools_that_cannot_be_made_is_refused_by_its_name(serve: Serve, choice: Any) -> None:
    async with serve() as host:
        body = {"model": "mock", "messages": USER, "tools": TOOLS, "tool_choice": choice}
        response = await host.client.post("/v1/chat/completions", json=body)

    assert response.status_code == 400
    assert "tool_choice" in response.json()["error"]["message"] or response.json()["error"]["param"] == "tools"


ODD: list[Any] = [[], {}, ["x"], {"a": 1}, 5, True]


@pytest.mark.spec("ORCH-3073-010")
@pytest.mark.parametrize("odd", ODD)
async def test_what_should_be_a_word_and_is_none_is_refused(serve: Serve, odd: Any) -> None:
    part = {"type": odd, "text": "x"}
    tool = {"type": "function", "function": {"name": odd}}
    named = {"type": "function", "name": odd}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("chat/completions", {"messages": [{"role": "user", "content": [part]}]}),
        ("chat/completions", {"messages": USER, "tools": [*TOOLS, tool], "tool_choice": allowed("add")}),
        ("responses", {"input": [{"role": "user", "content": [part]}]}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": [part]}]}),
        ("responses", {"input": "x", "tools": [named], "tool_choice": {"type": "allowed_tools", "tools": [named]}}),
    ]
    async with serve() as host:
        answers = [await host.client.post(f"/v1/{path}", json={"model": "mock", **body}) for path, body in requests]

    assert [answer.status_code for answer in answers] == [400] * len(requests)
    assert all(answer.json()["error"]["code"] in ("invalid_request", "unsupported") for answer in answers)


PROBES = ("/health", "/health/ready", "/ping", "/version")


@pytest.mark.spec("ORCH-3073-012")
async def test_words_are_not_told_as_the_field_at_fault(serve: Serve) -> None:
    async with serve() as host:
        empty = await host.client.post("/v1/chat/completions", content=b"")
        negative = await host.client.post("/v1/chat/completions", json={"model": "mock", "messages": USER, "top_p": 2})

    assert (empty.status_code, empty.json()["error"]["param"]) == (400, None)
    assert negative.json()["error"]["param"] == "top_p"


@pytest.mark.spec("ORCH-3073-012")
async def test_a_field_at_fault_is_called_as_the_client_called_it(serve: Serve) -> None:
    faults: list[tuple[str, str, Any]] = [
        ("chat/completions", "messages", []),
        ("chat/completions", "max_completion_tokens", 0),
        ("chat/completions", "max_completion_tokens", True),
        ("chat/completions", "max_tokens", 0),
        ("responses", "max_output_tokens", -1),
        ("responses", "text", {"format": {"type": "json_schema", "name": "x"}}),
    ]
    async with serve() as host:
        for path, name, value in faults:
            body = {"model": "mock", "messages" if path.startswith("chat") else "input": USER, name: value}
            error = (await host.client.post(f"/v1/{path}", json=body)).json()["error"]
            assert error["param"].split(".")[0] == name, error


@pytest.mark.spec("ORCH-3073-010")
def test_a_null_does_not_hide_its_twin() -> None:
    assert chat_of(max_tokens=7, max_completion_tokens=None).max_tokens == 7
    assert chat_of(max_tokens=None, max_completion_tokens=8).max_tokens == 8


@pytest.mark.spec("ORCH-3073-011")
async def test_what_only_an_engine_can_do_reaches_it_or_is_refused_by_it(serve: Serve) -> None:
    asked = chat_of(ignore_eos=True, min_p=0.1, skip_special_tokens=False)
    assert dict(asked.parameters) == {
        "engine.ignore_eos": True, "engine.min_p": 0.1, "engine.skip_special_tokens": False
    }  # fmt: skip
    async with serve() as host:
        body = {"model": "mock", "messages": USER, "ignore_eos": True}
        response = await host.client.post("/v1/chat/completions", json=body)
        sent = mock(host).submitted
    assert response.status_code == 400, "the mock has no such parameter"
    assert "ignore_eos" in response.json()["error"]["message"]
    assert all(set(task.parameters) == {"mock.ignore_eos"} for task in sent)


@pytest.mark.spec("ORCH-3073-011")
def test_formats_and_thinking_are_asked_for_as_in_vllm() -> None:
    schema = {"type": "object"}
    for fields in ({"structured_outputs": {"json": schema}}, {"guided_json": schema}):
        found = chat_of(**fields).response_format
        assert found is not None
        assert (found.type, dict(found.json_schema or {})) == ("json_schema", schema)
    choice = parse_completion({"model": "m", "prompt": "x", "guided_choice": ["a.b", "c"]}, {}).task.response_format
    assert choice is not None
    assert choice.regex == r"(a\.b)|(c)"
    assert dict(chat_of(reasoning_effort="low").chat_template_kwargs) == {"reasoning_effort": "low"}


@pytest.mark.spec("ORCH-3073-012")
async def test_errors_say_what_to_do_and_which_field(serve: Serve) -> None:
    async with serve({"fail": "protocol_violation"}) as host:
        body = {"model": "mock", "messages": USER}
        failed = await host.client.post("/v1/chat/completions", json=body)
        wrong = await host.client.post("/v1/chat/completions", json={**body, "temperature": -1})
        models = (await host.client.get("/v1/models")).json()["data"]

    assert failed.status_code == 502
    assert failed.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in wrong.headers, "no client tries these again"
    assert wrong.json()["error"]["param"] == "temperature"
    assert all(model["created"] > 1_600_000_000 for model in models)


@pytest.mark.spec("ORCH-3073-012")
async def test_the_sdk_of_a_page_is_let_in_with_its_headers(serve: Serve) -> None:
    headers = "authorization,content-type,x-stainless-os,x-stainless-retry-count,openai-organization,x-request-id"
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    async with serve(server={"cors_origins": [ORIGIN]}) as host:
        let_in = await host.client.options("/v1/chat/completions", headers=ask)
        other = await host.client.options("/v1/chat/completions", headers={**ask, "Origin": "https://evil.example"})

    assert let_in.status_code == 200
    assert let_in.headers["access-control-allow-origin"] == ORIGIN
    allowed = let_in.headers["access-control-allow-headers"].split(",")
    assert set(headers.split(",")) <= {each.strip() for each in allowed}
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.spec("ORCH-3073-012")
async def test_a_model_is_described_in_vllms_words(serve: Serve) -> None:
    async with serve({"models": ["org/m"]}) as host:
        listed = (await host.client.get("/v1/models")).json()["data"]
        named = [(await host.client.get(f"/v1/models/{name}")).json() for name in ("org/m", "org%2Fm")]

    assert [*listed, *named] == [listed[0]] * 3
    words = ("id", "object", "root", "parent", "max_model_len", "permission")
    assert [listed[0][word] for word in words] == ["org/m", "model", "org/m", None, None, []]


@pytest.mark.spec("ORCH-3073-012")
async def test_the_load_is_what_waits_or_runs(serve: Serve) -> None:
    async with serve({"slots": 1, "hang_after": 1}, server={"shutdown_grace_s": 0.01}) as host:
        idle = (await host.client.get("/load")).json()
        task = {"model": "mock", "prompt": "a"}
        async with host.client.stream("POST", "/v2/tasks", json=task) as one:
            async with host.client.stream("POST", "/v2/tasks", json=task) as other:
                busy = (await host.client.get("/load")).json()
                assert one.status_code == other.status_code == 200

    assert (idle, busy) == ({"server_load": 0}, {"server_load": 2})


@pytest.mark.spec("ORCH-3073-012")
async def test_a_body_is_json_whatever_it_is_called(serve: Serve) -> None:
    plain = json.dumps({"model": "mock", "prompt": "a"}).encode()
    sent: list[tuple[dict[str, str], bytes]] = [
        ({}, plain),
        ({"Content-Type": "application/json; charset=utf-8"}, plain),
        ({"Content-Type": "text/plain"}, plain),
        ({"Content-Encoding": ""}, plain),
        ({"Content-Encoding": "identity"}, plain),
        ({"Content-Encoding": "X-GZIP, identity"}, gzip.compress(plain)),
        ({}, b"\xef\xbb\xbf" + plain),
    ]
    path = "/v1/completions?api-version=1&api-version=2"
    async with serve() as host:
        found = [(await host.client.post(path, content=body, headers=headers)).status_code for headers, body in sent]

    assert found == [200] * len(sent)


@pytest.mark.spec("ORCH-3073-012")
async def test_the_probes_of_other_servers_are_there(serve: Serve) -> None:
    async with serve() as host:
        found = [(await host.client.get(path)).status_code for path in PROBES]
    assert found == [200] * len(PROBES)
    async with serve({"state": "unreachable"}) as host:
        assert (await host.client.get("/health")).status_code == 503


@pytest.mark.spec("ORCH-3073-013")
async def test_a_pool_says_how_long_an_answer_may_be_where_nobody_else_does(serve: Serve) -> None:
    async with serve({"reply": "one two three four"}, pool={"default_max_tokens": 2}) as host:
        body = {"model": "mock", "messages": USER}
        short = (await host.client.post("/v1/chat/completions", json=body)).json()
        own = (await host.client.post("/v1/chat/completions", json={**body, "max_tokens": 3})).json()

    assert short["choices"][0]["message"]["content"] == "one two"
    assert own["choices"][0]["message"]["content"] == "one two three"


@pytest.mark.spec("ORCH-3073-011")
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_what_a_model_thought_goes_back_to_it_with_the_conversation(name: str) -> None:
    messages = [*USER, {"role": "assistant", "content": "b", name: "Hm."}, {**USER[0], name: "not the model's"}]
    task = chat_of(messages=messages)

    assert task.messages is not None
    assert [message.reasoning for message in task.messages] == [None, "Hm.", None]
