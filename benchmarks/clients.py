"""Ways to the tokens of a text model: this project's, the one that tritonclient's users write, and bare grpc.aio.

`submit` always asks for the finish reason and the token counts where the model has them, has a deadline, and sees the
call to its end. So there are two baselines: tritonclient for the text alone, which leaves at the last token, and
tritonclient for all that `submit` brings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import tritonclient.grpc.aio as tc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from adapter_api import End, Error, TaskRequest, Token
from triton_adapter import TritonAdapter

_COUNTS = ["finish_reason", "num_input_tokens", "num_output_tokens"]


@dataclass(frozen=True)
class Order:
    """What to ask of a model that speaks the vLLM backend's tensors."""

    model: str
    prompt: str
    tokens: int
    counted: bool = False
    """Whether the model can say why it stopped and how many tokens there were."""

    def task(self) -> TaskRequest:
        return TaskRequest(
            model=self.model,
            prompt=self.prompt,
            max_tokens=self.tokens,
            min_tokens=self.tokens,
            temperature=0,
            timeout_s=120,
            parameters={"triton.extra_args": '{"token_delay_ms": 0}'},
        )

    def sampling_parameters(self) -> str:
        extra = {"token_delay_ms": 0}
        sampling = {"max_tokens": self.tokens, "min_tokens": self.tokens, "temperature": 0, "extra_args": extra}
        return json.dumps(sampling)


@dataclass(frozen=True)
class Told:
    """What the engine says of the task beside its text."""

    finish_reason: str = "unknown"
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class Answer:
    text: str
    first_token_s: float
    told: Told | None = None
    """`None`: not asked for."""


Client = Callable[[Order], Awaitable[Answer]]

GRPC_AIO = "grpc.aio, text only"
TEXT_ONLY = "tritonclient, text only"
SAME_WORK = "tritonclient, same work"


def clients(adapter: TritonAdapter, rival: tc.InferenceServerClient) -> dict[str, Client]:
    """Return the clients to compare, the baselines first."""
    return {
        TEXT_ONLY: partial(by_tritonclient, rival),
        SAME_WORK: partial(by_tritonclient_with_all, rival),
        "submit": partial(by_submit, adapter),
        "submit, batches()": partial(by_batches, adapter),
    }


async def by_submit(adapter: TritonAdapter, order: Order) -> Answer:
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    told = Told()
    async for event in adapter.submit(order.task()):
        if type(event) is Token:
            if not texts:
                first = perf_counter() - began
            texts.append(event.text)
        elif type(event) is End:
            told = _told_by(event)
        elif type(event) is Error:
            raise RuntimeError(event.message)
    return Answer("".join(texts), first, told)


async def by_batches(adapter: TritonAdapter, order: Order) -> Answer:
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    told = Told()
    async for events in adapter.submit(order.task()).batches():
        for event in events:
            if type(event) is Token:
                if not texts:
                    first = perf_counter() - began
                texts.append(event.text)
            elif type(event) is End:
                told = _told_by(event)
            elif type(event) is Error:
                raise RuntimeError(event.message)
    return Answer("".join(texts), first, told)


async def by_tritonclient(client: tc.InferenceServerClient, order: Order) -> Answer:
    """Ask for the text only, without a deadline, and leave at the last token: as little as one can do."""
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    async for result, error in client.stream_infer(_requests(order, [])):
        if error is not None:
            raise error
        output = result.as_numpy("text_output")
        if output is not None and output.size:
            if not texts:
                first = perf_counter() - began
            texts.append(output[0].decode())
        if result.get_response().parameters["triton_final_response"].bool_param:
            break
    return Answer("".join(texts), first)


async def tritonclient_texts(client: tc.InferenceServerClient, order: Order) -> AsyncIterator[str]:
    """Yield the texts as they come, at the pace of whoever takes them."""
    async for result, error in client.stream_infer(_requests(order, [])):
        if error is not None:
            raise error
        output = result.as_numpy("text_output")
        if output is not None and output.size:
            yield output[0].decode()
        if result.get_response().parameters["triton_final_response"].bool_param:
            break


async def by_tritonclient_with_all(client: tc.InferenceServerClient, order: Order) -> Answer:
    """Ask for what `submit` asks for, under a deadline, and see the call to its end."""
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    counted = order.counted
    tokens_out, final, last = 0, False, None
    async for result, error in client.stream_infer(_requests(order, _COUNTS if counted else []), stream_timeout=120):
        if error is not None:
            raise error
        output = result.as_numpy("text_output")
        if output is not None and output.size:
            if not texts:
                first = perf_counter() - began
            texts.append(output[0].decode())
            last = result
            if counted:
                tokens_out += result.as_numpy("num_output_tokens").item()
        final = result.get_response().parameters["triton_final_response"].bool_param
    if not final or last is None:
        raise RuntimeError("the stream ended without its last message")
    if not counted:
        return Answer("".join(texts), first, Told())
    reason = last.as_numpy("finish_reason").item().decode()
    return Answer("".join(texts), first, Told(reason, last.as_numpy("num_input_tokens").item(), tokens_out))


async def by_grpc_aio(stub: service_pb2_grpc.GRPCInferenceServiceStub, order: Order) -> Answer:
    """Ask for the text only, by the stubs that grpc makes: nothing of tritonclient but its messages is in it."""
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    call = stub.ModelStreamInfer(_messages(order))
    async for reply in call:
        if reply.error_message:
            raise RuntimeError(reply.error_message)
        response = reply.infer_response
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
            if output.name == "text_output":
                if not texts:
                    first = perf_counter() - began
                texts.append(raw[4:].decode())
        if response.parameters["triton_final_response"].bool_param:
            break
    call.cancel()
    return Answer("".join(texts), first)


async def _messages(order: Order) -> AsyncIterator[service_pb2.ModelInferRequest]:
    request = service_pb2.ModelInferRequest(model_name=order.model)
    for name, datatype, raw in (
        ("text_input", "BYTES", _framed(order.prompt)),
        ("stream", "BOOL", b"\1"),
        ("sampling_parameters", "BYTES", _framed(order.sampling_parameters())),
    ):
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw)
    request.outputs.add(name="text_output")
    yield request


def _framed(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def _told_by(end: End) -> Told:
    return Told(end.finish_reason, end.usage.tokens_in, end.usage.tokens_out)


async def _requests(order: Order, counts: list[str]) -> AsyncIterator[dict[str, Any]]:
    yield {
        "model_name": order.model,
        "inputs": _inputs(order, counts),
        "outputs": [tc.InferRequestedOutput(name) for name in ("text_output", *counts)],
    }


def _inputs(order: Order, counts: list[str]) -> list[tc.InferInput]:
    values = {
        "text_input": ("BYTES", np.array([order.prompt.encode()], np.object_)),
        "stream": ("BOOL", np.array([True])),
        "sampling_parameters": ("BYTES", np.array([order.sampling_parameters().encode()], np.object_)),
        **{f"return_{name}": ("BOOL", np.array([True])) for name in counts},
    }
    inputs = []
    for name, (datatype, value) in values.items():
        tensor = tc.InferInput(name, [1], datatype)
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    return inputs


async def together(client: Client, order: Order, streams: int) -> list[Answer]:
    """Return the answers of so many tasks that run side by side."""
    return list(await asyncio.gather(*(client(order) for _ in range(streams))))
