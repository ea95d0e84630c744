"""`generate` and `generate_stream` on the v2 face: what Triton's own clients of them find."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest

from adapter_api.testing import MockAdapter
from adapter_clients import ChatClient
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_v2_config import in_front_of
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio

# Model, body: well, and badly.
ALIKE: list[tuple[str, Any]] = [
    ("echo", {"text_input": "hi", "temperature": 0.5, "parameters": {"a": True, "b": "c", "d": 7}}),
    ("echo", {"text_input": ["hi"], "id": "7"}),
    ("tinylm", {"text_input": "hi", "sampling_parameters": '{"max_tokens": 3, "seed": 1}'}),
    ("addsub", {"INPUT0": list(range(16)), "INPUT1": [1] * 16}),
    ("addsub", {"INPUT0": list(range(32)), "INPUT1": [1] * 32}),
    ("tensors", {"INT32_IN": [1, 2], "FP64_IN": 0.5, "BOOL_IN": [True], "BYTES_IN": ["a", "ü"]}),
    ("tensors", {"INT32_IN": []}),
    ("addsub", {"INPUT0": [1, 2, 3], "INPUT1": [1] * 16}),
    ("echo", {}),
    ("echo", {"text_input": "a", "foo": {"b": 1}}),
    ("nope", {"text_input": "a"}),
]


def without_id_parameter(body: Any) -> Any:
    """Triton gives the model its `id` as a parameter too, which nobody asked for."""
    if isinstance(body, dict) and "text_output" in body and str(body["text_output"]).startswith("{"):
        said = json.loads(body["text_output"])
        said["parameters"].pop("id", None)
        return {**body, "text_output": said}
    return body


@pytest.mark.live
@pytest.mark.spec("ORCH-3074-003")
async def test_generate_answers_as_triton_does(triton: EmbeddedTriton) -> None:
    differing = []
    async with (
        in_front_of(triton.grpc_url) as host,
        httpx.AsyncClient(base_url=triton.http_url, trust_env=False) as engine,
    ):
        for model, body in ALIKE:
            asked, told = [await each.post(f"/v2/models/{model}/generate", json=body) for each in (host, engine)]
            same = asked.status_code == told.status_code
            if told.status_code == 200:
                same = same and without_id_parameter(asked.json()) == without_id_parameter(told.json())
            if not same:
                differing.append((model, body, asked.text, told.text))

    assert not differing


@pytest.mark.live
@pytest.mark.spec("ORCH-3074-004")
async def test_generate_stream_sends_the_frames_that_triton_sends(triton: EmbeddedTriton) -> None:
    bodies: list[tuple[str, Any]] = [
        ("tinytrt", {"text_input": "hi", "max_tokens": 4, "stream": True, "random_seed": 3}),
        ("splitter", {"text_input": "hi"}),
        ("echo", {"text_input": "hi"}),
        ("midfail", {"text_input": "hi"}),
    ]
    differing = []
    async with (
        in_front_of(triton.grpc_url) as host,
        httpx.AsyncClient(base_url=triton.http_url, trust_env=False) as engine,
    ):
        for model, body in bodies:
            asked, told = [await each.post(f"/v2/models/{model}/generate_stream", json=body) for each in (host, engine)]
            heads = [(each.status_code, each.headers["Content-Type"]) for each in (asked, told)]
            frames = [_frames(each.content) for each in (asked, told)]
            if heads[0] != heads[1] or frames[0] != frames[1]:
                differing.append((model, heads, frames))
        several = await host.post("/v2/models/splitter/generate", json={"text_input": "hi"})

    assert not differing
    assert (several.status_code, several.json()["code"]) == (400, "invalid_request")
    assert "generate_stream" in several.json()["error"]


def _frames(body: bytes) -> list[Any]:
    """The frames of a body; of an error that it is one, since its words and code are the host's own."""
    assert body.endswith(b"\n\n")
    found = []
    for frame in body.split(b"\n\n")[:-1]:
        assert frame.startswith(b"data: ")
        # A model may cut a character in two: the frame is then no UTF-8, here as there.
        said = json.loads(frame.removeprefix(b"data: ").decode("utf-8", "surrogateescape"))
        found.append("error" if "error" in said else said)
    return found


@pytest.mark.live
@pytest.mark.spec("ORCH-3074-004")
async def test_our_own_chat_client_chats_through_a_host(triton: EmbeddedTriton) -> None:
    async with in_front_of(triton.grpc_url) as host:
        url = f"http+v2://{host.base_url.netloc.decode()}"
        async with ChatClient.connect(url, model="tinytrt") as client:
            pieces = [piece async for piece in client.chat("Hello", max_new_tokens=8, seed=1)]
        async with ChatClient.connect(triton.grpc_url, model="tinytrt") as client:
            there = await client.chat("Hello", max_new_tokens=8, seed=1)

    assert len(pieces) > 1
    assert "".join(pieces) == there.text


@pytest.mark.spec("ORCH-3074-005")
async def test_a_model_that_takes_text_and_tells_no_tensors_generates_too(serve: Serve) -> None:
    async with serve({"reply": "one two three"}) as host:
        whole = await host.client.post("/v2/models/mock/generate", json={"text_input": "hi", "id": "7"})
        streamed = await host.client.post(
            "/v2/models/mock/versions/1/generate_stream",
            json={"text_input": ["hi"], "stream": True, "sampling_parameters": '{"max_tokens": 2}'},
        )
        engine = adapter_of(host.orchestrator, "r0")
        assert isinstance(engine, MockAdapter)
        sent = engine.submitted[-1]

    assert whole.json() == {"id": "7", "model_name": "mock", "model_version": "1", "text_output": "one two three"}
    assert [each["text_output"] for each in _frames(streamed.content)] == ["one", " two"]
    assert (sent.prompt, sent.max_tokens, sent.model_version) == ("hi", 2, "1")


@pytest.mark.spec("ORCH-3074-005")
async def test_a_long_text_is_taken_as_on_every_other_face(serve: Serve) -> None:
    async with serve({"reply": "ok"}) as host:
        answer = await host.client.post("/v2/models/mock/generate", json={"text_input": "a" * 2**20})
        engine = adapter_of(host.orchestrator, "r0")
        assert isinstance(engine, MockAdapter)
        prompt = engine.submitted[-1].prompt

    assert answer.json()["text_output"] == "ok"
    assert len(prompt or "") == 2**20


@pytest.mark.spec("ORCH-3074-005")
@pytest.mark.parametrize(
    "body, named",
    [
        ({}, "'text_input'"),
        ({"text_input": 5}, "'text_input'"),
        ({"text_input": ["a", "b"]}, "'text_input'"),
        ({"text_input": "a", "beam_width": 4}, "'beam_width'"),
        ({"text_input": "a", "bad_words": "x"}, "'bad_words'"),
        ({"text_input": "a", "max_tokens": "3"}, "max_tokens"),
        ({"text_input": "a", "max_tokens": True}, "max_tokens"),
        ({"text_input": "a", "sampling_parameters": "[1]"}, "'sampling_parameters'"),
        ({"text_input": "a", "sampling_parameters": "{"}, "'sampling_parameters'"),
        ({"text_input": "a", "parameters": 3}, "parameters"),
        ([], "object"),
    ],
)
@pytest.mark.parametrize("way", ["generate", "generate_stream"])
async def test_what_such_a_model_cannot_do_is_refused_by_name(serve: Serve, way: str, body: Any, named: str) -> None:
    async with serve() as host:
        response = await host.client.post(f"/v2/models/mock/{way}", json=body)

    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert named in response.json()["error"]


@pytest.mark.spec("ORCH-3074-004")
async def test_an_error_before_the_first_frame_has_its_own_status_and_a_later_one_is_a_frame(serve: Serve) -> None:
    async with serve({"reply": "one two", "fail": "engine_failed"}) as host:
        first = await host.client.post("/v2/models/mock/generate_stream", json={"text_input": "hi"})
    async with serve({"reply": "one two", "fail": "engine_failed", "fail_after": 1}) as host:
        later = await host.client.post("/v2/models/mock/generate_stream", json={"text_input": "hi"})

    assert (first.status_code, first.json()["code"]) == (500, "engine_failed")
    assert later.status_code == 200
    assert _frames(later.content)[-1] == "error"


@pytest.mark.spec("ORCH-3074-004")
@pytest.mark.parametrize("way", ["generate", "generate_stream"])
async def test_leaving_cancels_what_was_generated(serve: Serve, way: str) -> None:
    async with serve({"reply": "one two", "hang_after": 1}) as host:
        engine = adapter_of(host.orchestrator, "r0")
        assert isinstance(engine, MockAdapter)
        async with httpx.AsyncClient(base_url=host.url, trust_env=False) as leaving:
            sending = leaving.build_request("POST", f"/v2/models/mock/{way}", json={"text_input": "hi"})
            if way == "generate_stream":
                response = await leaving.send(sending, stream=True)
                await anext(response.aiter_bytes())
                await response.aclose()
            else:
                async with anyio.create_task_group() as group:
                    group.start_soon(leaving.send, sending)
                    await eventually(lambda: bool(engine.running))
                    group.cancel_scope.cancel()
        await eventually(lambda: not engine.running)


@pytest.mark.spec("ORCH-3074-003")
async def test_a_model_of_any_name_generates_on_tensors() -> None:
    with FakeTriton() as fake:
        fake.model("org/llm").signature("text").respond_with_tokens(["a", "b"])
        async with in_front_of(fake.grpc_url) as host:
            answers = [
                await host.post(f"/v2/models/{path}/generate_stream", json={"text_input": "x"})
                for path in ("org/llm", "org%2Fllm", "org/llm/versions/1")
            ]

    assert [[each["text_output"] for each in _frames(answer.content)] for answer in answers] == [["a", "b"]] * 3
