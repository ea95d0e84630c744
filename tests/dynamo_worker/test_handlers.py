"""What answers a request: on the mock adapter, and on a real Triton."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio
import msgspec
import numpy as np
import pytest

from adapter_api import (
    Capability,
    End,
    Error,
    InferRequest,
    InferResponse,
    ModelProps,
    Reasoning,
    Started,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
    ToolCallDelta,
    Usage,
    WorkerAdapter,
)
from adapter_api.testing import MockAdapter, MockSettings, MockToolCall
from dynamo_worker.asking import InFlight
from dynamo_worker.cards import tensor_config
from dynamo_worker.handlers import Handler, TensorHandler, TextHandler
from dynamo_worker.prompts import parse_prompt
from tests.dynamo_worker.standing_in import Raised, RequestContext, as_dynamo_writes_them
from tests.dynamo_worker.test_values import given
from triton_adapter.adapter import TritonAdapter
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.settings import TritonSettings

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
X = [given("Float32", [1.0, 2.0], [2])]


async def handler(kind: type[Handler], adapter: WorkerAdapter, model: str = "mock") -> Handler:
    return kind(adapter, await adapter.model_props(model), Raised, InFlight())


async def answer(kind: type[Handler], request: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """Return all pieces of an answer by the mock adapter."""
    async with MockAdapter(MockSettings(**settings)) as adapter:
        return [piece async for piece in (await handler(kind, adapter))(request, RequestContext())]


class Asked(MockAdapter):
    """Remembers inferences."""

    def __init__(self) -> None:
        super().__init__()
        self.inferences: list[InferRequest] = []

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        self.inferences.append(request)
        async for response in super()._infer_stream(request):
            yield response


@pytest.mark.spec("ORCH-3071-006")
async def test_id_priority_timeout_sequence_trace_and_parameters_reach_the_adapter() -> None:
    parent = f"00-{'1' * 32}-{'2' * 16}-01"
    request = {
        "id": "r7", "tensors": X, "outputs": [{"name": "x", "parameters": {"classification": {"int64": 2}}}],
        "parameters": {
            "priority": {"uint64": 3}, "timeout": {"int64": 1_500_000}, "sequence_id": {"string": "s"},
            "sequence_start": {"bool": True}, "sequence_end": {"bool": False}, "mine": {"double": 0.5},
        },
    }  # fmt: skip
    async with Asked() as adapter:
        made = await handler(TensorHandler, adapter)
        (piece,) = [piece async for piece in made(request, RequestContext({"traceparent": parent}))]

        (sent,) = adapter.inferences
    assert (sent.request_id, sent.priority, sent.timeout_s, sent.traceparent) == ("r7", 3, 1.5, parent)
    assert sent.sequence is not None
    assert (sent.sequence.id, sent.sequence.start, sent.sequence.end) == ("s", True, False)
    assert dict(sent.parameters) == {"mine": 0.5}
    assert (sent.outputs[0].name, sent.outputs[0].classification) == ("x", 2)
    assert (piece["id"], as_dynamo_writes_them(piece["tensors"])) == ("r7", X)


@pytest.mark.spec("ORCH-3071-006")
async def test_clients_that_send_one_id_for_everything_may() -> None:
    async with Asked() as adapter:
        made = await handler(TensorHandler, adapter)

        async def ask() -> list[dict[str, Any]]:
            return [piece async for piece in made({"id": "1", "tensors": X}, RequestContext())]

        found = await asyncio.gather(ask(), ask())
    assert [pieces[0]["id"] for pieces in found] == ["1", "1"]


class Streaming(MockAdapter):
    """Answers three times, and flags the end as it is told."""

    def __init__(self, *endings: bool) -> None:
        super().__init__()
        self.endings = endings

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        for final in self.endings:
            yield InferResponse(model=request.model, outputs=request.inputs, final=final)


@pytest.mark.spec("ORCH-3071-007")
@pytest.mark.parametrize(
    "endings, finals",
    [((False, False, True), [False, False, True]), ((False, False), [False, False, True]), ((), [True])],
)
async def test_the_end_is_told_once_to_whoever_asked_for_it(endings: tuple[bool, ...], finals: list[bool]) -> None:
    asked = {"tensors": X, "parameters": {"triton_enable_empty_final_response": {"bool": True}}}
    async with Streaming(*endings) as adapter:
        pieces = [piece async for piece in (await handler(TensorHandler, adapter))(asked, RequestContext())]

    assert [piece["parameters"]["triton_final_response"]["bool"] for piece in pieces] == finals
    assert len([piece for piece in pieces if piece["tensors"]]) == len(endings)


@pytest.mark.spec("ORCH-3071-007")
async def test_the_end_is_not_told_to_whoever_did_not_ask() -> None:
    async with Streaming(False, False, True) as adapter:
        pieces = [piece async for piece in (await handler(TensorHandler, adapter))({"tensors": X}, RequestContext())]

    assert len(pieces) == 3
    assert not any("parameters" in piece for piece in pieces)


@pytest.mark.spec("ORCH-3071-005")
async def test_a_version_that_the_model_has_not_is_refused() -> None:
    async with MockAdapter() as adapter:
        made = TensorHandler(adapter, ModelProps(name="mock", versions=("1",)), Raised, InFlight())
        with pytest.raises(Raised) as caught:
            await anext(made({"tensors": X, "model_version": "9"}, RequestContext()))

    assert caught.value.code == "invalid_request"
    assert "'9'" in caught.value.message


@pytest.mark.spec("ORCH-3071-008")
@pytest.mark.parametrize(
    "request_",
    [
        {}, {"tensors": X, "parameters": {"timeout": {"int64": -1}}}, {"tensors": X, "parameters": {"priority": 3}},
        {"tensors": X, "outputs": [{}]}, {"tensors": X, "parameters": {"sequence_id": {"double": 1.5}}},
    ],
)  # fmt: skip
async def test_a_request_that_is_none_is_refused_before_the_engine_sees_it(request_: dict[str, Any]) -> None:
    async with Asked() as adapter:
        with pytest.raises(Raised) as caught:
            await anext((await handler(TensorHandler, adapter))(request_, RequestContext()))

        assert (caught.value.code, adapter.inferences) == ("invalid_request", [])


@pytest.mark.spec("ORCH-3071-013")
async def test_a_chat_is_answered_with_a_role_texts_a_reason_and_usage() -> None:
    chunks = await answer(TextHandler, CHAT, reply="one two")

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert all("role" not in delta for delta in deltas[1:])
    assert "".join(delta.get("content", "") for delta in deltas) == "one two"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


class Together(MockAdapter):
    """Says what it says in lists of what is ready together."""

    def __init__(self, *lists: list[TokenEvent]) -> None:
        super().__init__()
        self.lists = lists

    async def _submit(self, task: TaskRequest) -> AsyncIterator[list[TokenEvent]]:  # type: ignore[override]
        yield [Started(job_id=task.job_id, engine="mock", model="mock")]
        for events in self.lists:
            yield events


END = End(finish_reason="length", usage=Usage(tokens_in=1, tokens_out=3))


@pytest.mark.spec("ORCH-3071-013")
async def test_texts_that_are_ready_together_are_one_chunk_and_the_reason_comes_with_the_last() -> None:
    async with Together([Token(0, "a")], [Token(1, "b"), Token(2, "c"), END]) as adapter:
        made = await handler(TextHandler, adapter)
        chunks = [chunk async for chunk in made({**CHAT, "stream": True}, RequestContext())]

    told = [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in chunks]
    assert told == [({"role": "assistant", "content": "a"}, None), ({"content": "bc"}, "length")]


@pytest.mark.spec("ORCH-3071-013")
async def test_what_is_no_text_keeps_its_place_among_texts_that_are_ready_together() -> None:
    thought, call = Reasoning(0, "hm"), ToolCallDelta(0, "c1", "look", "{}")
    async with Together([thought, Token(0, "a"), Token(1, "b"), call], [END]) as adapter:
        made = await handler(TextHandler, adapter)
        chunks = [chunk async for chunk in made({**CHAT, "stream": True}, RequestContext())]

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [sorted(delta.keys() - {"role"}) for delta in deltas] == [
        ["reasoning_content"], ["content"], ["tool_calls"], [],
    ]  # fmt: skip
    assert deltas[1]["content"] == "ab"


@pytest.mark.spec("ORCH-3071-013")
async def test_each_token_whose_probability_was_asked_for_keeps_a_chunk_of_its_own() -> None:
    async with Together([Token(0, "a", logprob=-0.5), Token(1, "b", logprob=-0.25), END]) as adapter:
        made = await handler(TextHandler, adapter)
        chunks = [chunk async for chunk in made({"prompt": "x", "logprobs": 0, "stream": True}, RequestContext())]

    scored = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [each and each["token_logprobs"] for each in scored] == [[-0.5], [-0.25], None]


@pytest.mark.spec("ORCH-3071-008")
async def test_texts_that_come_together_with_an_error_are_told_before_it() -> None:
    async with Together(
        [Token(0, "a"), Token(1, "b"), Error(code="overloaded", message="later", retryable=True)]
    ) as adapter:
        chunks = (await handler(TextHandler, adapter))({"prompt": "x"}, RequestContext())
        text = (await anext(chunks))["choices"][0]["text"]
        with pytest.raises(Raised) as caught:
            await anext(chunks)

    assert (text, caught.value.code) == ("ab", "overloaded")


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("options, told", [(None, False), ({"include_usage": True}, True)])
async def test_a_stream_tells_usage_only_when_it_was_asked_to(options: dict[str, Any] | None, told: bool) -> None:
    chunks = await answer(TextHandler, {"prompt": "x", "stream": True, "stream_options": options}, reply="one")

    assert any("usage" in chunk for chunk in chunks) == told
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


@pytest.mark.spec("ORCH-3071-013")
async def test_tool_calls_and_reasoning_are_told_where_the_engine_has_them() -> None:
    chunks = await answer(
        TextHandler, {**CHAT, "tools": [TOOL]}, reasoning="hm",
        tool_calls=(MockToolCall(name="look", arguments='{"at": "it"}', id="c1"),),
    )  # fmt: skip

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm"
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("c1", "look")
    assert "".join(call["function"]["arguments"] for call in calls) == '{"at": "it"}'
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("field", [{"best_of": 3}, {"n": 2}, {"unheard_of": 1}, {"ignore_eos": True}])
async def test_what_cannot_be_honoured_is_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(Raised) as caught:
        await answer(TextHandler, {**CHAT, **field})

    assert caught.value.code in ("unsupported", "invalid_request")
    assert next(iter(field)) in caught.value.message


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("given, asked", [
    ({"temperature": 0.699999988079071}, {"temperature": 0.7}), ({"top_p": 1.0}, {"top_p": 1.0}),
    ({"repetition_penalty": 1.100000023841858}, {"repetition_penalty": 1.1}),
    ({"temperature": 0.1 + 0.2}, {"temperature": 0.1 + 0.2}), ({"temperature": 0.0}, {"temperature": 0.0}),
    ({"chat_template_args": {"x": 1}}, {"chat_template_kwargs": {"x": 1}}),
    ({"reasoning_effort": "low", "chat_template_args": {"reasoning_effort": "low"}},
     {"chat_template_kwargs": {"reasoning_effort": "low"}}),
])  # fmt: skip
def test_fields_are_read_as_the_client_sent_them(given: dict[str, Any], asked: dict[str, Any]) -> None:
    task = parse_prompt({**CHAT, **given}, model="m", engine="e", trace={}).task

    assert {name: getattr(task, name) for name in asked} == asked


@pytest.mark.spec("ORCH-3071-013")
def test_what_only_an_engine_can_honour_goes_to_it_as_a_parameter() -> None:
    task = parse_prompt({**CHAT, "ignore_eos": True, "min_p": 0.5}, model="m", engine="openai", trace={}).task

    assert dict(task.parameters) == {"openai.ignore_eos": True, "openai.min_p": 0.5}


@pytest.mark.spec("ORCH-3071-008")
async def test_an_error_of_the_stream_is_raised_after_the_texts_before_it() -> None:
    async with MockAdapter(MockSettings(reply="a b c", fail="overloaded", fail_after=2)) as adapter:
        chunks = (await handler(TextHandler, adapter))({"prompt": "x"}, RequestContext())
        texts = [(await anext(chunks))["choices"][0]["text"] for _ in range(2)]
        with pytest.raises(Raised) as caught:
            await anext(chunks)

    assert ("".join(texts).strip(), caught.value.code) == ("a b", "overloaded")


@pytest.mark.spec("ORCH-3071-003")
async def test_a_client_that_leaves_cancels_its_task_in_the_engine() -> None:
    async with MockAdapter(MockSettings(reply="a b", hang_after=1)) as adapter:
        context = RequestContext()
        chunks = (await handler(TextHandler, adapter))({"prompt": "x", "stream": True}, context)
        await anext(chunks)
        running = set(adapter.running)
        context.leave()
        rest = [chunk async for chunk in chunks]

        assert (len(running), adapter.running, rest) == (1, set(), [])


class Once(MockAdapter):
    """Answers each inference once, by a call that is no stream."""

    async def _model_props(self, model: str) -> ModelProps:
        props = await super()._model_props(model)
        return msgspec.structs.replace(props, capabilities=props.capabilities - {Capability.TENSOR_STREAM})


WAYS: list[tuple[type[Handler], type[MockAdapter], dict[str, Any]]] = [
    (TextHandler, MockAdapter, {"prompt": "x", "stream": True}),
    (TensorHandler, MockAdapter, {"tensors": X}),
    (TensorHandler, Once, {"tensors": X}),
]


@pytest.mark.spec("ORCH-3071-003", "ORCH-3071-011")
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("kind, engine, request_", WAYS)
async def test_an_answer_that_dynamo_forgets_is_over_when_its_client_leaves(
    kind: type[Handler], engine: type[MockAdapter], request_: dict[str, Any], watched: bool
) -> None:
    async with engine(MockSettings(reply="a b", hang_after=1, responses=5)) as adapter:
        context, in_flight = Watched(), InFlight()
        pieces = kind(adapter, await adapter.model_props("mock"), Raised, in_flight)(request_, context)
        await anext(pieces)
        with anyio.fail_after(5):
            if watched:
                await context.watched.wait()
            before = in_flight.count
            context.leave()
            await in_flight.idle()

        assert (before, in_flight.count, adapter.running) == (1, 0, set())
        await anyio.to_thread.run_sync(closed_by_python, pieces)
        assert in_flight.count == 0


def closed_by_python(pieces: AsyncGenerator[Any, None]) -> None:
    """Close a generator as its collector does: at any time and without an event loop."""
    with pytest.raises(StopIteration):
        pieces.aclose().send(None)


@pytest.mark.spec("ORCH-3071-011")
@pytest.mark.parametrize("kind, engine, request_", WAYS)
async def test_an_answer_that_ends_as_its_client_leaves_is_over_once(
    kind: type[Handler], engine: type[MockAdapter], request_: dict[str, Any]
) -> None:
    async with engine(MockSettings(reply="a")) as adapter:
        context, in_flight = Watched(), InFlight()
        pieces = kind(adapter, await adapter.model_props("mock"), Raised, in_flight)(request_, context)
        await anext(pieces)
        with anyio.fail_after(5):
            await context.watched.wait()
            context.leave()
            await pieces.aclose()
            await in_flight.idle()
        await anyio.wait_all_tasks_blocked()

        assert (in_flight.count, adapter.running) == (0, set())


class Watched(RequestContext):
    """Counts how often it was asked for the sign that its client left."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.watched = 0, asyncio.Event()

    def async_killed_or_stopped(self) -> asyncio.Future[bool]:
        self.asked += 1
        self.watched.set()
        return super().async_killed_or_stopped()


@pytest.mark.spec("ORCH-3071-003")
@pytest.mark.parametrize("kind, engine, request_", WAYS)
async def test_a_client_that_left_before_anybody_looked_is_noticed_all_the_same(
    kind: type[Handler], engine: type[MockAdapter], request_: dict[str, Any]
) -> None:
    async with hanging(engine)() as adapter:
        context, in_flight = Watched(), InFlight()
        context.leave()
        pieces = kind(adapter, await adapter.model_props("mock"), Raised, in_flight)(request_, context)
        rest = [piece async for piece in pieces]
        await in_flight.idle()

        assert (context.asked, adapter.started, adapter.ended, rest) == (1, 1, 1, [])


@pytest.mark.spec("ORCH-3071-003")
async def test_dynamo_is_not_asked_about_clients_of_what_is_over_at_once() -> None:
    context = Watched()
    async with MockAdapter() as adapter:
        made = await handler(TensorHandler, adapter)
        (piece,) = [piece async for piece in made({"tensors": X}, context)]

    assert (context.asked, len(piece["tensors"])) == (0, 1)


class Hanging(MockAdapter):
    """Never answers."""

    started = ended = 0

    async def _hang(self) -> None:
        self.started += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended += 1

    async def _infer(self, request: InferRequest) -> InferResponse:
        await self._hang()
        return InferResponse(model=request.model)

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        await self._hang()
        yield InferResponse(model=request.model)

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        await self._hang()
        yield END


class HangingOnce(Hanging, Once):
    """Never answers, by a call that is no stream."""


def hanging(engine: type[MockAdapter]) -> type[Hanging]:
    return HangingOnce if engine is Once else Hanging


@pytest.mark.spec("ORCH-3071-003")
async def test_a_generator_that_dynamo_closes_cancels_too() -> None:
    async with MockAdapter(MockSettings(reply="a b", hang_after=1)) as adapter:
        chunks = (await handler(TextHandler, adapter))({"prompt": "x", "stream": True}, RequestContext())
        await anext(chunks)
        await chunks.aclose()

        assert adapter.running == set()


@pytest.mark.live
@pytest.mark.spec("ORCH-3071-014", "ORCH-3071-004")
async def test_a_model_of_triton_is_described_by_its_own_configuration_and_answers(triton: EmbeddedTriton) -> None:
    async with TritonAdapter(TritonSettings(url=triton.grpc_url)) as adapter:
        props = await adapter.model_props("addsub")
        config = tensor_config(props, await adapter.serialized_config("addsub"))
        ones = [
            {
                **given("Float32", [1.0, 2.0, 3.0, 4.0], [1, 4]),
                "metadata": {"name": name, "data_type": "Float32", "shape": [1, 4]},
            }
            for name in ("INPUT0", "INPUT1")
        ]
        made = await handler(TensorHandler, adapter, "addsub")
        (piece,) = [
            piece async for piece in made({"id": "a", "tensors": ones, "outputs": [{"name": "SUM"}]}, RequestContext())
        ]

    assert b"addsub" in bytes(config["triton_model_config"])
    assert [spec["name"] for spec in config["inputs"]] == ["INPUT0", "INPUT1"]
    assert [tensor["metadata"]["name"] for tensor in piece["tensors"]] == ["SUM"]
    assert list(piece["tensors"][0]["data"]["values"]) == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.live
@pytest.mark.spec("ORCH-3071-003")
async def test_a_stream_of_tensors_that_is_left_ends_in_triton(triton: EmbeddedTriton) -> None:
    async with TritonAdapter(TritonSettings(url=triton.grpc_url)) as adapter:
        context, made = RequestContext(), await handler(TensorHandler, adapter, "slow")
        text = Tensor.from_numpy("text_input", np.array([b"a " * 200], dtype=object))
        request = {"tensors": [given("Bytes", [list(text.elements()[0])], [1])]}
        request["tensors"][0]["metadata"]["name"] = "text_input"
        pieces = made(request, context)
        await anext(pieces)
        context.leave()
        rest = [piece async for piece in pieces]
        report = await adapter.health()

        assert len(rest) < 100
        assert report.capacity.in_flight == 0
