"""Two ways to the tokens of a text model: this project's, and the one that tritonclient's users write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import tritonclient.grpc.aio as tc

from adapter_api import Error, TaskRequest, Token
from triton_adapter import TritonAdapter


@dataclass(frozen=True)
class Order:
    """What to ask of a model that speaks the vLLM backend's tensors."""

    model: str
    prompt: str
    tokens: int

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
class Answer:
    text: str
    first_token_s: float


Client = Callable[[Order], Awaitable[Answer]]


def clients(adapter: TritonAdapter, rival: tc.InferenceServerClient) -> dict[str, Client]:
    """Return the clients to compare, the baseline first."""

    async def tritonclient(order: Order) -> Answer:
        return await by_tritonclient(rival, order)

    async def submit(order: Order) -> Answer:
        return await by_submit(adapter, order)

    async def batches(order: Order) -> Answer:
        return await by_batches(adapter, order)

    return {"tritonclient.grpc.aio": tritonclient, "submit": submit, "submit, batches()": batches}


async def by_submit(adapter: TritonAdapter, order: Order) -> Answer:
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    async for event in adapter.submit(order.task()):
        if type(event) is Token:
            if not texts:
                first = perf_counter() - began
            texts.append(event.text)
        elif type(event) is Error:
            raise RuntimeError(event.message)
    return Answer("".join(texts), first)


async def by_batches(adapter: TritonAdapter, order: Order) -> Answer:
    began, first = perf_counter(), 0.0
    texts: list[str] = []
    async for events in adapter.submit(order.task()).batches():
        for event in events:
            if type(event) is Token:
                if not texts:
                    first = perf_counter() - began
                texts.append(event.text)
            elif type(event) is Error:
                raise RuntimeError(event.message)
    return Answer("".join(texts), first)


async def by_tritonclient(client: tc.InferenceServerClient, order: Order) -> Answer:
    began, first = perf_counter(), 0.0
    texts: list[str] = []

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {
            "model_name": order.model,
            "inputs": _inputs(order),
            "outputs": [tc.InferRequestedOutput("text_output")],
            "enable_empty_final_response": True,
        }

    async for result, error in client.stream_infer(requests()):
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


def _inputs(order: Order) -> list[tc.InferInput]:
    values = {
        "text_input": ("BYTES", np.array([order.prompt.encode()], np.object_)),
        "stream": ("BOOL", np.array([True])),
        "sampling_parameters": ("BYTES", np.array([order.sampling_parameters().encode()], np.object_)),
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
