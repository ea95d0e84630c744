"""Fields of OpenAI's requests that nobody here knows."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from adapter_api import Unsupported
from orchestrator.http.unknown_fields import HEADER, LOG_EVERY_S, UnknownFields
from tests.orchestrator.http.conftest import Serve

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "Hello"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": USER},
    "completions": {"prompt": "Hello"},
    "responses": {"input": "Hello"},
}


@pytest.mark.spec("ORCH-3077-001")
@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_field_that_nobody_knows_is_ignored_and_named(serve: Serve, path: str, stream: bool) -> None:
    body = {"model": "mock", "stream": stream, **REQUESTS[path], "max_token": 5, "foo": {"a": [1]}, "bar": None}
    async with serve() as host:
        answer = await host.client.post(f"/v1/{path}", json=body)
        plain = await host.client.post(f"/v1/{path}", json={"model": "mock", "stream": stream, **REQUESTS[path]})

    assert (answer.status_code, answer.headers[HEADER]) == (200, "max_token, foo")
    assert (plain.status_code, HEADER in plain.headers) == (200, False)


@pytest.mark.spec("ORCH-3077-001")
async def test_a_field_deeper_in_the_request_is_named_by_its_place(serve: Serve) -> None:
    body = {
        "model": "mock", "messages": [{**USER[0], "mood": "good"}, {**USER[0], "mood": "bad"}], "stream": True,
        "stream_options": {"include_usage": True, "colour": "red"},
    }  # fmt: skip
    async with serve() as host:
        answer = await host.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert answer.headers[HEADER] == "messages.mood, stream_options.colour"


@pytest.mark.spec("ORCH-3077-001")
async def test_names_that_clients_make_up_cannot_spoil_the_answer(serve: Serve) -> None:
    odd = {"a\r\nX-Evil: 1": 1, "": 1, "ü" * 5000: 1, **{f"f{i}": 1 for i in range(1000)}}
    async with serve() as host:
        answer = await host.client.post("/v1/completions", json={"model": "mock", "prompt": "Hi", **odd})

    told = answer.headers[HEADER].split(", ")
    assert answer.status_code == 200
    assert "X-Evil" not in answer.headers
    assert told[:3] == ["a??X-Evil??1", "?", "?" * 64]
    assert (len(told), told[-1]) == (17, "...")


@pytest.mark.spec("ORCH-3077-001", "ORCH-3073-010")
@pytest.mark.parametrize("path, name", [
    *[("completions", name) for name in ("messages", "tools", "documents", "max_completion_tokens", "top_logprobs")],
    *[("chat/completions", name) for name in ("prompt", "suffix", "functions", "audio", "prompt_embeds")],
    *[("responses", name) for name in ("background", "conversation", "prompt", "context_management")],
    *[("embeddings", name) for name in ("truncate_prompt_tokens", "embed_dtype", "messages")],
])  # fmt: skip
async def test_a_known_field_that_would_be_missed_is_refused_as_ever(serve: Serve, path: str, name: str) -> None:
    known = {**REQUESTS, "embeddings": {"input": "Hello"}}[path]
    async with serve() as host:
        answer = await host.client.post(f"/v1/{path}", json={"model": "mock", **known, name: [5]})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name


@pytest.mark.spec("ORCH-3077-001")
@pytest.mark.parametrize("fields", [
    {"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "low"}, {"include_reasoning": False},
])  # fmt: skip
async def test_what_a_template_would_see_is_nothing_to_a_prompt(serve: Serve, fields: dict[str, Any]) -> None:
    async with serve() as host:
        answer = await host.client.post("/v1/completions", json={"model": "mock", "prompt": "Hi", **fields})

    assert (answer.status_code, answer.headers[HEADER]) == (200, *fields)


@pytest.mark.spec("ORCH-3077-003")
@pytest.mark.parametrize("path", REQUESTS)
async def test_a_host_may_refuse_what_it_does_not_know(serve: Serve, path: str) -> None:
    async with serve(server={"unknown_fields": "refuse"}) as host:
        answer = await host.client.post(f"/v1/{path}", json={"model": "mock", **REQUESTS[path], "max_token": 5})

    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("max_token", "unsupported")


@pytest.mark.spec("ORCH-3077-002")
def test_the_log_has_a_line_at_once_and_one_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    fields = UnknownFields(refuse=False, clock=lambda: now)

    with caplog.at_level(logging.WARNING):
        fields.headers([])
        for number in range(1000):
            fields.headers([f"f{number}"])
        first = [record.getMessage() for record in caplog.records]
        now = LOG_EVERY_S
        fields.headers(["late"])

    assert [message.split(":")[0] for message in first] == [
        "fields that this server does not know were ignored in 1 requests"
    ]
    second = caplog.records[-1].getMessage()
    assert (len(caplog.records), "ignored in 1000 requests: f1, f2, f3" in second) == (2, True)
    assert len(second) < 2000


@pytest.mark.spec("ORCH-3077-003")
def test_what_is_refused_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    fields = UnknownFields(refuse=True, clock=lambda: 0.0)

    with pytest.raises(Unsupported, match=r"^'foo' is no field"):
        fields.headers(["foo", "bar"])

    assert (fields.headers([]), caplog.records) == ({}, [])
