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
    # To the end, so that no probe is a cancel of its own: one in some hundred that follow each other trips Triton 2.51.
    request = InferRequest(model="slow", inputs=inputs, parameters=parameters)
    answers = [response async for response in adapter.infer_stream(request) if response.outputs]
    if not answers:
        raise RuntimeError("the probe was not answered")
    found: dict[str, Any] = json.loads(answers[0]["text_output"].elements()[0])
    return found


async def running(adapter: TritonAdapter, *, wait_s: float = 20.0) -> int:
    """Return how many generations still run in the engine once that is none, or the time is up."""
    ends = perf_counter() + wait_s
    while True:
        left = int((await probe(adapter))["running"])
        if not left or perf_counter() > ends:
            return left
