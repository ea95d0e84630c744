"""What Triton's own OpenAI frontend is tested for, as its tests of `python/openai` say it, at a host.

Where it answers 422 a host answers 400, as OpenAI does. What it lacks and says so (several answers, `logit_bias` that
asks for something) a host has, or refuses by its engine's word.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.orchestrator.http.conftest import Host, Serve

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-009", "ORCH-3073-010")]

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "What is machine learning?"}]}
TEXT: dict[str, Any] = {"prompt": "What is machine learning?"}
REPLY = "It is a field. And more, of it"


async def ask(host: Host, body: dict[str, Any], **fields: Any) -> Any:
    path = "chat/completions" if "messages" in body else "completions"
    answer = await host.client.post(f"/v1/{path}", json={"model": "mock", **body, **fields})
    return answer.status_code, answer.json()


@pytest.mark.parametrize("body", [CHAT, TEXT])
@pytest.mark.parametrize("fields", [
    {}, {"temperature": 0.7}, {"max_tokens": 10}, {"top_p": 0.9}, {"frequency_penalty": 0.5}, {"presence_penalty": 0.2},
    {"n": 1}, {"stop": "."}, {"stop": []}, {"stop": [".", ","]}, {"logit_bias": {"0": 0}}, {"min_tokens": 1},
    {"ignore_eos": False}, {"user": "u"}, {"stream": False}, {"best_of": 1}, {"seed": 1},
])  # fmt: skip
async def test_what_its_users_send_is_answered(serve: Serve, body: dict[str, Any], fields: dict[str, Any]) -> None:
    async with serve({"reply": REPLY}) as host:
        status, answer = await ask(host, body, **fields)

    choice = answer["choices"][0]
    assert status == 200
    assert (choice["message"]["content"] if body is CHAT else choice["text"]).strip()
    assert choice["logprobs"] is None
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


@pytest.mark.parametrize("body", [CHAT, TEXT])
@pytest.mark.parametrize("fields", [
    {"temperature": -0.1}, {"max_tokens": -1}, {"top_p": 1.1}, {"frequency_penalty": 3}, {"frequency_penalty": -3},
    {"presence_penalty": 2.1}, {"presence_penalty": -2.1}, {"min_tokens": -1}, {"ignore_eos": 123}, {"model": "other"},
])  # fmt: skip
async def test_what_nobody_can_mean_is_refused_by_its_name(
    serve: Serve, body: dict[str, Any], fields: dict[str, Any]
) -> None:
    async with serve() as host:
        status, answer = await ask(host, body, **fields)

    assert status == (404 if "model" in fields else 400)
    assert [answer["error"]["param"]] == list(fields)


@pytest.mark.parametrize("body", [
    {}, {"messages": []}, {"messages": [{}]}, {"messages": None}, {"prompt": ""}, {"prompt": None}, {"prompt": []},
    {**CHAT, "top_logprobs": 5}, {**TEXT, "stream_options": {"include_usage": True}},
    {**CHAT, "stream_options": {"include_usage": True}}, {**TEXT, "n": 2, "best_of": 3},
])  # fmt: skip
async def test_a_request_that_is_none_is_refused(serve: Serve, body: dict[str, Any]) -> None:
    async with serve() as host:
        status, answer = await ask(host, body)

    assert status == 400
    assert answer["error"]["message"]


async def test_the_newer_limit_goes_before_the_older_one(serve: Serve) -> None:
    async with serve({"reply": REPLY}) as host:
        _, answer = await ask(host, CHAT, max_tokens=50, max_completion_tokens=1)

    assert answer["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("body", [CHAT, TEXT])
@pytest.mark.parametrize("stop", [[], "is", ["is"], ["is", ".", ","]])
async def test_a_stream_says_what_the_whole_answer_says_and_ends_once(
    serve: Serve, body: dict[str, Any], stop: Any
) -> None:
    async with serve({"reply": REPLY}) as host:
        _, whole = await ask(host, body, stop=stop)
        path = "chat/completions" if body is CHAT else "completions"
        asked = {"model": "mock", **body, "stop": stop, "stream": True}
        plain, counted = [
            (await host.client.post(f"/v1/{path}", json={**asked, "stream_options": {"include_usage": include}})).text
            for include in (False, True)
        ]

    assert plain.endswith("data: [DONE]\n\n")
    chunks, with_usage = (
        [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")] for text in (plain, counted)
    )
    pieces = [chunk["choices"][0].get("delta", chunk["choices"][0]) for chunk in chunks]
    said = whole["choices"][0]
    assert "".join(piece.get("content", piece.get("text")) for piece in pieces) == (
        said["message"]["content"] if body is CHAT else said["text"]
    )
    ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert ends == [said["finish_reason"]]
    assert len(with_usage) == len(chunks) + 1
    assert (with_usage[-1]["choices"], with_usage[-1]["usage"]) == ([], whole["usage"])
    assert not any(chunk.get("usage") for chunk in [*chunks, *with_usage[:-1]])


async def test_its_routes_are_there(serve: Serve) -> None:
    async with serve() as host:
        found = [
            (await host.client.get(path)).status_code
            for path in (
                "/health/ready",
                "/metrics",
                "/v1/models",
                "/v1/models/mock",
                "/does-not-exist",
                "/v1/models/x",
            )
        ]
        wrong = await host.client.get("/v1/chat/completions")

    assert found == [200, 200, 200, 200, 404, 404]
    assert wrong.status_code == 405
