"""How likely a prompt is, on the OpenAI face: `echo` with `logprobs` and `prompt_logprobs`, as at vLLM's server."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import InvalidRequest
from orchestrator.http.openai_requests import parse_chat, parse_completion
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.http.test_token_ids import chunks_of

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3076-017")]

SCORED = {"logprobs": True, "token_ids": True, "reply": "by the sea"}
USER: Any = [{"role": "user", "content": "a long river"}]


async def test_an_evaluation_reads_how_likely_each_token_of_its_prompt_is(serve: Serve) -> None:
    """As lm-eval asks: one token, the likeliest in each place, the prompt in ids."""
    async with serve(SCORED) as host, client_of(host) as client:
        told = await client.completions.create(
            model="mock", prompt=[[5, 3, 9], [7, 2]], temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True
        )

    first, second = sorted(told.choices, key=lambda choice: choice.index)
    assert first.logprobs is not None
    assert first.logprobs.token_logprobs == [None, -1.0, -1.0, -1.0]
    assert first.logprobs.tokens == ["5", "3", "9", "by"]
    assert first.logprobs.top_logprobs == [None, {"3": -1.0}, {"9": -1.0}, {"by": -1.0}]
    assert first.logprobs.text_offset == [0, 1, 2, 3]
    assert (first.text, second.text) == ("539by", "72by")
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (5, 2)


async def test_with_no_tokens_wanted_the_prompt_comes_alone(serve: Serve) -> None:
    async with serve(SCORED) as host:
        body = {"model": "mock", "prompt": "a long river", "max_tokens": 0, "echo": True, "logprobs": 0}
        [choice] = (await host.client.post("/v1/completions", json=body)).json()["choices"]
        plain = (await host.client.post("/v1/completions", json={**body, "logprobs": None})).json()["choices"][0]
        refused = await host.client.post("/v1/completions", json={**body, "echo": False})

    assert (choice["text"], choice["finish_reason"]) == ("a long river", "length")
    assert choice["logprobs"]["tokens"] == ["a", " long", " river"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -1.0]
    assert (plain["text"], plain["logprobs"], "prompt_logprobs" in plain) == ("a long river", None, False)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")


async def test_prompt_logprobs_have_the_form_of_vllms_server(serve: Serve) -> None:
    async with serve(SCORED) as host:
        body = {"model": "mock", "prompt_logprobs": 2, "max_tokens": 1}
        text = (await host.client.post("/v1/completions", json={**body, "prompt": [5, 3]})).json()
        chat = (await host.client.post("/v1/chat/completions", json={**body, "messages": USER})).json()
        unasked = (await host.client.post("/v1/chat/completions", json={"model": "mock", "messages": USER})).json()

    first, second = text["choices"][0]["prompt_logprobs"]
    assert first is None
    own, other = second.values()
    assert own == {"logprob": -1.0, "rank": 1, "decoded_token": "3"}
    assert other == {"logprob": -2.0, "rank": 2, "decoded_token": "32"}
    assert next(iter(second)) == "3"
    assert (text["choices"][0]["text"], text["choices"][0]["logprobs"]) == ("by", None)
    texts = [place and next(iter(place.values()))["decoded_token"] for place in chat["prompt_logprobs"]]
    assert texts == [None, " long", " river"]
    assert "prompt_logprobs" not in chat["choices"][0]
    assert "prompt_logprobs" not in unasked


@pytest.mark.parametrize(
    "path, body", [("chat/completions", {"messages": USER}), ("completions", {"prompt": "a long river"})]
)
async def test_all_of_a_vocabulary_is_told_where_the_engine_tells_it(
    serve: Serve, path: str, body: dict[str, Any]
) -> None:
    asked = {"model": "mock", "prompt_logprobs": -1, "max_tokens": 1, **body}
    async with serve(SCORED) as host:
        told = (await host.client.post(f"/v1/{path}", json=asked)).json()
    async with serve({"reply": "so"}) as host:
        refused = await host.client.post(f"/v1/{path}", json=asked)

    first, *others = told["prompt_logprobs"] if "messages" in body else told["choices"][0]["prompt_logprobs"]
    assert first is None
    assert [len(place) for place in others] == [8, 8]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt_logprobs")


async def test_a_stream_begins_with_the_prompts_tokens(serve: Serve) -> None:
    async with serve(SCORED) as host:
        first, *rest = await chunks_of(
            host, "/v1/completions", prompt="a long river", echo=True, logprobs=0, max_tokens=2, return_token_ids=True
        )
        [alone, _] = await chunks_of(host, "/v1/completions", prompt="a b", echo=True, logprobs=0, max_tokens=0)

    [choice] = first["choices"]
    assert (choice["text"], choice["logprobs"]["tokens"]) == ("a long river", ["a", " long", " river"])
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -1.0]
    assert len(choice["prompt_token_ids"]) == 3
    assert [chunk["choices"][0]["text"] for chunk in rest] == ["by", " the", ""]
    assert rest[1]["choices"][0]["logprobs"]["text_offset"] == [14]
    assert alone["choices"][0]["text"] == "a b"


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"prompt_logprobs": 1, "stream": True}, "'prompt_logprobs' are not available in streams"),
        ({"prompt_logprobs": -2}, "'prompt_logprobs' must be"),
        ({"prompt_logprobs": -1, "stream": True}, "'prompt_logprobs' are not available in streams"),
        ({"prompt_logprobs": True}, "'prompt_logprobs' must be"),
        ({"prompt_logprobs": "many"}, "'prompt_logprobs' must be"),
        ({"prompt_logprobs": 101}, "prompt_logprobs"),
    ],
)
def test_what_no_answer_could_tell_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    for parse, body in ((parse_chat, {"messages": USER}), (parse_completion, {"prompt": "a"})):
        with pytest.raises(InvalidRequest, match=said):
            parse({"model": "m", **body, **fields}, {})


def test_a_stream_that_asks_for_none_of_the_likeliest_is_taken_as_vllm_takes_it() -> None:
    asked = parse_completion({"model": "m", "prompt": "a", "prompt_logprobs": 0, "stream": True}, {})

    assert asked.task.prompt_logprobs is None


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": [5], "echo": True}, "echo"),
        ({"prompt": "a", "prompt_logprobs": 0}, "prompt_logprobs"),
        ({"messages": USER, "prompt_logprobs": 0}, "prompt_logprobs"),
        ({"prompt": "a", "echo": True, "logprobs": 1, "stream": True}, "echo"),
    ],
)
async def test_a_model_that_does_not_tell_it_is_named_with_the_field(
    serve: Serve, fields: dict[str, Any], param: str
) -> None:
    async with serve({"token_ids": True}) as host:
        path = "chat/completions" if "messages" in fields else "completions"
        answer = await host.client.post(f"/v1/{path}", json={"model": "mock", **fields})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported", param)
    assert "'mock'" in error["message"]


async def test_an_echo_of_a_text_needs_nothing_of_the_engine(serve: Serve) -> None:
    async with serve({"reply": "so"}) as host, client_of(host) as client:
        told = await client.completions.create(model="mock", prompt="a b", echo=True, max_tokens=1)

    assert told.choices[0].text == "a bso"
