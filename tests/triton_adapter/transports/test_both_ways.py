"""One behaviour, many ways: the same work comes to the same by gRPC and by HTTP, on the fake and the real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from adapter_api import (
    AdapterError,
    Datatype,
    End,
    Error,
    InferRequest,
    Metrics,
    RequestedOutput,
    Started,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
)
from adapter_api.testing import collect
from conformance_tests import sample_tensor
from tests.triton_adapter.ways import url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton
from triton_adapter.testing.signatures import Signature

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3066-001")]

BOTH: tuple[Way, Way] = ("grpc", "http")


def shown(event: TokenEvent) -> tuple[Any, ...]:
    """Return what an event says, but for names that are made, times, and where the server is."""
    if isinstance(event, Started):
        return "started", event.engine, event.engine_version, event.model, event.model_version, event.seed
    if isinstance(event, Token):
        return "token", event.index, event.text, event.logprob, event.token_id
    if isinstance(event, Metrics):
        return "metrics", event.tokens_in, event.tokens_out
    if isinstance(event, End):
        return "end", event.finish_reason, event.usage
    assert isinstance(event, Error), event
    return event.code, without_place(event.message), event.retryable, event.stage


def without_place(message: str) -> str:
    return re.sub(r"(grpc|http\+v2)://[\w.:]+", "the server", message)


async def told(url: str, task: dict[str, Any]) -> list[tuple[Any, ...]]:
    async with TritonAdapter(TritonSettings(url=url, max_retries=0)) as adapter:
        return [shown(event) for event in await collect(adapter.submit(TaskRequest.model_validate(task)))]


# -- on the fake ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


async def both(fake: FakeTriton, **fields: Any) -> list[tuple[Any, ...]]:
    """Return what a task comes to, which is the same by both ways."""
    task = {"model": "m", "prompt": "hi", **fields}
    by_grpc, by_http = [await told(url_of(fake, way), task) for way in BOTH]
    assert by_http == by_grpc
    return by_http


@pytest.mark.parametrize("signature", ["vllm", "vllm_before_24_12", "trtllm", "trtllm_bls", "trtllm_llmapi", "text"])
async def test_every_family_streams_the_same(fake: FakeTriton, signature: Signature) -> None:
    fake.model("m").signature(signature).respond_with_text("one two three")

    events = await both(fake, max_tokens=8) if signature != "text" else await both(fake)

    assert [event[0] for event in events].count("token") == 3
    assert events[-1][0] == "end"


@pytest.mark.parametrize("signature", ["vllm", "text"])
async def test_a_model_that_answers_once_answers_the_same(fake: FakeTriton, signature: Signature) -> None:
    fake.model("m").signature(signature, decoupled=False).respond_with_text("one two three")

    events = await both(fake)

    assert events[-1][0] == "end"


async def test_an_answer_of_nothing_is_the_same(fake: FakeTriton) -> None:
    fake.model("m").signature("text").respond_with_text("")

    assert [event[0] for event in await both(fake)] == ["started", "end"]


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("then", [None, "messages"])
async def test_an_error_within_a_stream_is_the_same(fake: FakeTriton, after: int, then: Any) -> None:
    model = fake.model("m").respond_with_text("one two three")
    if then is None:
        model.fail("it went wrong", after=after)
    else:
        model.fail("it went wrong", after=after, final=False, then=then)

    events = await both(fake)

    assert [event[0] for event in events] == ["started", *["token"] * after, "engine_failed"]
    assert "it went wrong" in events[-1][1]


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_ends_within_a_stream_is_told_and_may_be_tried_again(
    fake: FakeTriton, reset: bool
) -> None:
    fake.model("m").respond_with_text("one two three").cut(after=1, reset=reset)

    found = [await told(url_of(fake, way), {"model": "m", "prompt": "hi"}) for way in BOTH]

    codes = [events[-1][0] for events in found]
    # gRPC knows that its stream was not ended, HTTP that its body was not; both are the connection's fault.
    assert codes == ["connection_lost", "connection_lost" if reset else "stream_incomplete"]
    assert all(events[-1][2] for events in found), "both may be tried again"


@pytest.mark.parametrize("fields", [
    {"model": "nope"}, {"model_version": "7"}, {"model_version": "seven"}, {"stop": ["two"]}, {"logprobs": 2},
    {"parameters": {"triton.unheard_of": 1}}, {"top_k": 3}, {"images": True},
])  # fmt: skip
async def test_what_cannot_be_had_is_refused_alike(fake: FakeTriton, fields: dict[str, Any]) -> None:
    fake.model("m").signature("text").respond_with_text("one two three")
    if fields.pop("images", False):
        image = {"type": "image", "data": "iVBORw0KGgo=", "media_type": "image/png"}
        fields = {"prompt": None, "messages": [{"role": "user", "content": [image]}]}

    by_grpc, by_http = [await told(url_of(fake, way), {"model": "m", "prompt": "hi", **fields}) for way in BOTH]

    assert [event[0] for event in by_http] == [event[0] for event in by_grpc]


async def test_a_model_that_is_gone_or_a_server_that_fails_is_told_alike(fake: FakeTriton) -> None:
    fake.model("m").respond_with_text("one")
    fake.model("m").set_state("UNAVAILABLE", "it does not fit")

    assert (await both(fake))[-1][0] == "not_ready"


# -- on the real server -----------------------------------------------------------------------------------------------

SPLIT = "naïve 日本 🙂 the end…"
TASKS: dict[str, dict[str, Any]] = {
    "tokens, counts and a reason": {"model": "tinylm", "prompt": "The", "max_tokens": 12, "seed": 7},
    "probabilities": {"model": "tinylm", "prompt": "The", "max_tokens": 4, "seed": 7, "logprobs": 2},
    "a constraint": {
        "model": "tinylm", "prompt": "x", "max_tokens": 40, "seed": 1,
        "response_format": {"type": "regex", "regex": "(yes|no)"},
    },
    "a stop string": {"model": "tinylm", "prompt": "The", "max_tokens": 12, "seed": 7, "stop": [" 3"]},
    "messages": {"model": "tinylm", "messages": [{"role": "user", "content": "The"}], "max_tokens": 4, "seed": 7},
    "tensors of its own for every option": {"model": "tinytrt", "prompt": "The", "max_tokens": 12, "seed": 7},
    "characters that are split": {"model": "splitter", "prompt": SPLIT},
    "a character that is cut off": {"model": "splitter", "prompt": "half 🌙", "parameters": {"triton.drop_bytes": 1}},
    "zeros": {"model": "splitter", "prompt": "a\0b"},
    "an error at once": {"model": "midfail", "prompt": "x", "parameters": {"triton.tokens": 0}},
    "an error after tokens": {"model": "midfail", "prompt": "x", "parameters": {"triton.tokens": 2}},
    "an error in Triton's words": {
        "model": "midfail", "prompt": "x",
        "parameters": {"triton.tokens": 0, "triton.message_hex": b"Exceeds maximum queue size".hex()},
    },
    "a prompt that is too long": {"model": "tinylm", "prompt": "The " * 3000, "max_tokens": 8},
    "no such version": {"model": "echo", "prompt": "x", "model_version": "9"},
    "no version at all": {"model": "echo", "prompt": "x", "model_version": "nine"},
    "no such model": {"model": "nope", "prompt": "x"},
    "no model for texts": {"model": "addsub", "prompt": "x"},
    "an option without a place": {"model": "splitter", "prompt": "x", "temperature": 0.5},
}  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("name", TASKS)
async def test_a_task_comes_to_the_same_on_the_real_server(triton: EmbeddedTriton, name: str) -> None:
    task = {"timeout_s": 30, **TASKS[name]}

    by_grpc, by_http = [await told(url_of(triton, way), task) for way in BOTH]

    assert by_http == by_grpc


FLOATS = [sample_tensor(f"INPUT{number}", "FP32", (2, 4)) for number in range(2)]
REQUESTS: dict[str, InferRequest] = {
    "sums": InferRequest(model="addsub", inputs=tuple(FLOATS)),
    "one of its outputs": InferRequest(model="addsub", inputs=tuple(FLOATS), outputs=(RequestedOutput("SUM"),)),
    "the best of them": InferRequest(model="addsub", inputs=tuple(FLOATS), outputs=(RequestedOutput("SUM", 2),)),
    "a missing input": InferRequest(model="addsub", inputs=tuple(FLOATS[:1])),
    "an input there is not": InferRequest(model="tensors", inputs=(sample_tensor("ZZZ", "FP32", (1, 1)),)),
    "an output there is not": InferRequest(model="addsub", inputs=tuple(FLOATS), outputs=(RequestedOutput("NOPE"),)),
    "a wrong datatype": InferRequest(model="tensors", inputs=(sample_tensor("FP32_IN", "INT32", (1, 1)),)),
    "a wrong shape": InferRequest(model="tensors", inputs=(sample_tensor("FP32_IN", "FP32", (1,)),)),
    "a batch too large": InferRequest(model="tensors", inputs=(sample_tensor("FP32_IN", "FP32", (9, 1)),)),
    "bytes that are no text": InferRequest(
        model="tensors", inputs=(Tensor.from_bytes_elements("BYTES_IN", [b"\xff\0\x80", b""], (1, 2)),)
    ),
    "no elements": InferRequest(model="tensors", inputs=(Tensor("FP32_IN", "FP32", (1, 0), b""),)),
    "a model that streams": InferRequest(
        model="splitter", inputs=(Tensor.from_bytes_elements("text_input", [b"x"]),)
    ),
    "no such model": InferRequest(model="nope", inputs=()),
    "no such version": InferRequest(model="addsub", model_version="9", inputs=tuple(FLOATS)),
    **{
        datatype: InferRequest(model="tensors", inputs=(sample_tensor(f"{datatype}_IN", datatype, (2, 3)),))
        for datatype in Datatype.__args__  # type: ignore[attr-defined]
    },
}  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("name", REQUESTS)
async def test_an_inference_comes_to_the_same_on_the_real_server(triton: EmbeddedTriton, name: str) -> None:
    by_grpc, by_http = [await inferred(url_of(triton, way), REQUESTS[name]) for way in BOTH]

    assert by_http == by_grpc


async def inferred(url: str, request: InferRequest) -> Any:
    async with TritonAdapter(TritonSettings(url=url)) as adapter:
        try:
            with anyio.fail_after(20):
                response = await adapter.infer(request)
        except AdapterError as error:
            return error.code, without_place(error.message), error.retryable
    outputs = {tensor.name: (tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in response.outputs}
    return response.model_version, outputs, dict(response.parameters), response.final


@pytest.mark.live
async def test_what_the_server_tells_of_itself_is_the_same(triton: EmbeddedTriton) -> None:
    found = []
    for way in BOTH:
        async with TritonAdapter(TritonSettings(url=url_of(triton, way))) as adapter:
            props, health = await adapter.props(), await adapter.health()
            configs = {model.name: await adapter.models.config(model.name) for model in props.models}
            found.append((
                props.engine_version, props.extensions, configs, health.state, health.models,
                [(model.name, model.versions, model.dialect, model.inputs, model.outputs) for model in props.models],
                await adapter.models.index(), await adapter.models.trace_settings(),
                await adapter.models.log_settings(),
                {(each.name, each.version) for each in await adapter.models.statistics()},
            ))  # fmt: skip

    for by_grpc, by_http in zip(*found, strict=True):
        assert by_http == by_grpc
