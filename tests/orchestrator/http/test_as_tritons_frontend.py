"""What Triton's own OpenAI frontend is tested for, as its tests of `python/openai` say it, at a host.

Where it answers 422 a host answers 400, as OpenAI does. What it lacks and says so (several answers, `logit_bias` that
asks for something) a host has, or refuses by its engine's word.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.http.test_v2_config import in_front_of
from tests.orchestrator.http.test_v2_repository import plugins
from triton_adapter.embedded import EmbeddedTriton

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


# -- models that are loaded and unloaded -------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3074-009")
async def test_only_an_admins_key_loads_by_its_calls(serve: Serve) -> None:
    keys = [key("plain", watch=True), key("admin", admin=True), key("of-another", admin=True, models=["x"])]
    async with serve(server={"api_keys": keys}, pool={"adapter": "controlled"}, plugins=plugins()) as host:
        told = [
            [
                (await host.client.post(f"/v1/models/org/m/{verb}", headers=bearer(name))).status_code
                for verb in ("load", "unload")
            ]
            for name in ("plain", "admin", "of-another")
        ]
        nameless = await host.client.post("/v1/models//load", headers=bearer("admin"))
    async with serve() as host:
        none = await host.client.post("/v1/models/mock/load")

    assert told == [[403, 403], [200, 200], [403, 403]]
    assert nameless.status_code in (400, 404)
    assert none.status_code == 400
    assert none.json()["error"]["message"]


@pytest.mark.live
@pytest.mark.spec("ORCH-3074-009")
async def test_a_model_is_unloaded_and_loaded_again_by_its_calls(triton: EmbeddedTriton) -> None:
    async with in_front_of(triton.grpc_url) as host:
        try:
            unloaded = await host.post("/v1/models/tinylm/unload")
            gone = await host.get("/v1/models/tinylm")
            refused = await talk(host)
        finally:
            loaded = await host.post("/v1/models/tinylm/load")
        again = await host.post("/v1/models/tinylm/load")
        answered = await talk(host)
        nowhere = await host.post("/v1/models/nope/load")

    assert (unloaded.status_code, unloaded.json()) == (200, {"status": "success", "model": "tinylm"})
    # It is known, and may come back: no 404, after which nobody would ask again.
    assert (gone.json()["ready"], refused.status_code, refused.json()["error"]["code"]) == (False, 503, "not_ready")
    assert (loaded.status_code, loaded.json()["id"], loaded.json()["object"]) == (200, "tinylm", "model")
    assert loaded.json()["ready"] is True
    assert [again.status_code, answered.status_code, nowhere.status_code] == [200, 200, 404]


# -- at a Triton -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def real(triton: EmbeddedTriton) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a host before a Triton server, whose models take texts (`tinylm`), embed and add."""
    async with in_front_of(triton.grpc_url) as client:
        yield client


async def talk(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    path = "/v1/completions" if "prompt" in fields else "/v1/chat/completions"
    return await client.post(path, json={"model": "tinylm", **({} if "prompt" in fields else CHAT), **fields})


async def words(client: httpx.AsyncClient, **fields: Any) -> str:
    answer = await talk(client, **fields)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


live = pytest.mark.live


@live
@pytest.mark.parametrize("body", [CHAT, TEXT])
@pytest.mark.parametrize("fields", [
    {}, {"temperature": 0.7}, {"temperature": 0}, {"max_tokens": 10}, {"top_p": 0.9}, {"frequency_penalty": 0.5},
    {"presence_penalty": 0.2}, {"n": 1}, {"best_of": 1}, {"stop": "."}, {"stop": []}, {"stop": [".", ","]},
    {"logit_bias": {"0": 0}}, {"seed": 2}, {"user": "u"},
])  # fmt: skip
async def test_a_triton_answers_what_its_users_send(
    real: httpx.AsyncClient, body: dict[str, Any], fields: dict[str, Any]
) -> None:
    answer = (await talk(real, **{"seed": 1, **body, **fields})).json()

    [choice] = answer["choices"]
    assert (choice["message"]["content"] if body is CHAT else choice["text"]).strip()
    assert (choice["finish_reason"] in ("stop", "length"), choice["index"], answer["model"]) == (True, 0, "tinylm")
    assert answer["object"] == ("chat.completion" if body is CHAT else "text_completion")
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


@live
@pytest.mark.parametrize("body", [CHAT, TEXT])
async def test_a_triton_heeds_seeds_limits_and_stops(real: httpx.AsyncClient, body: dict[str, Any]) -> None:
    first, second, other = [await words(real, **body, seed=seed, temperature=1.5) for seed in (1, 1, 2)]
    whole = await words(real, **body, seed=1, max_tokens=40)
    letter = next(letter for letter in whole.strip()[1:] if letter.isalpha())
    stopped = await talk(real, **body, seed=1, max_tokens=40, stop=letter)
    short = (await talk(real, **body, max_tokens=3)).json()

    assert first == second != other
    told = stopped.json()["choices"][0]
    assert (told["message"]["content"] if body is CHAT else told["text"]) == whole.partition(letter)[0]
    assert told["finish_reason"] == "stop"
    assert (short["usage"]["completion_tokens"], short["choices"][0]["finish_reason"]) == (3, "length")


@live
async def test_a_triton_tells_of_each_token_how_likely_it_was(real: httpx.AsyncClient) -> None:
    chat = (await talk(real, logprobs=True, top_logprobs=2, max_tokens=5)).json()["choices"][0]
    text = (await talk(real, prompt="The", logprobs=2, max_tokens=5)).json()["choices"][0]
    echoed = (await talk(real, prompt="The", echo=True, max_tokens=4)).json()["choices"][0]

    listed = chat["logprobs"]["content"]
    assert "".join(each["token"] for each in listed) == chat["message"]["content"]
    assert all(each["logprob"] <= 0 and len(each["top_logprobs"]) == 2 for each in listed)
    told = text["logprobs"]
    assert "".join(told["tokens"]) == text["text"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["text_offset"]) == len(told["top_logprobs"])
    assert told["text_offset"][0] == 0
    assert echoed["text"].startswith("The")


@live
@pytest.mark.parametrize("body", [CHAT, TEXT])
async def test_a_triton_streams_what_it_says_whole(real: httpx.AsyncClient, body: dict[str, Any]) -> None:
    asked: dict[str, Any] = {**body, "seed": 7, "max_tokens": 12}
    whole = (await talk(real, **asked)).json()
    streamed = await talk(real, **asked, stream=True, stream_options={"include_usage": True})

    assert streamed.headers["content-type"].startswith("text/event-stream")
    *frames, done, nothing = streamed.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    *chunks, last = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    said = "".join(
        chunk["choices"][0]["delta"].get("content", "") if body is CHAT else chunk["choices"][0]["text"]
        for chunk in chunks
    )
    assert said == (whole["choices"][0]["message"]["content"] if body is CHAT else whole["choices"][0]["text"])
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1
    assert len(chunks) > 3
    assert (last["choices"], last["usage"]) == ([], whole["usage"])


@live
@pytest.mark.parametrize("fields, status", [
    ({"model": "embedder"}, 400), ({"model": "addsub"}, 400), ({"model": "Invalid"}, 404), ({"model": 123}, 400),
    ({"messages": []}, 400), ({"temperature": -1}, 400), ({"top_p": 1.1}, 400), ({"max_tokens": 0}, 400),
    ({"logprobs": True, "top_logprobs": -2}, 400), ({"prompt": "a", "logprobs": -1}, 400), ({"prompt": ""}, 400),
    ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}, 400),
])  # fmt: skip
async def test_a_triton_is_not_asked_for_what_its_model_cannot_do(
    real: httpx.AsyncClient, fields: dict[str, Any], status: int
) -> None:
    answer = await talk(real, **fields)

    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert answer.json()["error"]["message"]


async def embed(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/v1/embeddings", json={"model": "embedder", "input": "The food was fine", **fields})


@live
async def test_a_triton_embeds(real: httpx.AsyncClient) -> None:
    numbers = (await embed(real)).json()
    packed = (await embed(real, encoding_format="base64")).json()
    several = (await embed(real, input=["one", "two"])).json()

    assert (numbers["object"], numbers["data"][0]["object"], numbers["data"][0]["index"]) == ("list", "embedding", 0)
    vector = numbers["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4").tolist() == vector
    assert [each["index"] for each in several["data"]] == [0, 1]
    assert {len(each["embedding"]) for each in several["data"]} == {len(vector)}


@live
@pytest.mark.parametrize("fields, status", [
    ({"encoding_format": "invalid"}, 400), ({"encoding_format": 0}, 400), ({"input": ""}, 400), ({"input": []}, 400),
    ({"input": 123}, 400), ({"input": None}, 400), ({"model": 123}, 400), ({"model": "Invalid"}, 404),
    ({"model": "tinylm"}, 400), ({"dimensions": 1}, 400), ({"input": [101, 1]}, 400),
])  # fmt: skip
async def test_a_triton_is_not_asked_for_embeddings_that_are_none(
    real: httpx.AsyncClient, fields: dict[str, Any], status: int
) -> None:
    answer = await embed(real, **fields)

    assert (answer.status_code, set(answer.json())) == (status, {"error"})
