"""What the engine says about its generations: the `slow` demo model counts them and answers a probe."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

from adapter_api import InferRequest, TaskRequest, Tensor
from triton_adapter import TritonAdapter


def slow_task(*, tokens: int, delay_ms: float) -> TaskRequest:
    """Return a task that counts so far, at that pace."""
    return TaskRequest(
        model="slow", prompt="tick tock", max_tokens=tokens, timeout_s=300, parameters={"triton.delay_ms": delay_ms}
    )


async def probe(adapter: TritonAdapter, job_id: str | None = None) -> dict[str, Any]:
    """Return the model's counts, and the `state` of one task."""
    parameters: dict[str, bool | int | float | str] = {"probe": True}
    if job_id is not None:
        parameters["probe_id"] = job_id
    inputs = (Tensor.from_bytes_elements("text_input", [b"probe"]),)
    async with adapter.infer_stream(InferRequest(model="slow", inputs=inputs, parameters=parameters)) as stream:
        async for response in stream:
            found: dict[str, Any] = json.loads(response["text_output"].elements()[0])
            return found
    raise RuntimeError("the probe was not answered")


async def running(adapter: TritonAdapter, *, wait_s: float = 20.0) -> int:
    """Return how many generations still run in the engine once that is none, or the time is up."""
    ends = perf_counter() + wait_s
    while True:
        left = int((await probe(adapter))["running"])
        if not left or perf_counter() > ends:
            return left
