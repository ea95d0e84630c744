"""A harness for `adapter_api.testing.MockAdapter`, with the faults that its public face offers."""

from __future__ import annotations

import json
from typing import Any, cast

from adapter_api import Datatype, HealthState, InferRequest, TaskRequest, Tensor, Tool, WorkerAdapter
from adapter_api.testing import ErrorCode, MockAdapter, MockSettings, MockToolCall
from conformance_tests.harness import Echo, Harness, KnownResponses, KnownTensors, KnownToolCalls
from conformance_tests.outcome import Skipped
from conformance_tests.tensor_cases import echo_tensors

ECHO = "echo"
CALLS = (MockToolCall(name="weather", arguments='{"days": 1.0, "city":"Oslo"}', id="w1"), MockToolCall(name="time"))


class MockHarness(Harness):
    name = "mock"
    plugin = "mock"
    model = "mock"
    settle_s = 0.5
    """It lets go at once, and its long task takes two seconds."""

    def __init__(self) -> None:
        self._adapters: list[MockAdapter] = []

    async def reset(self) -> None:
        self._adapters.clear()

    def adapter(self) -> WorkerAdapter:
        adapter = MockAdapter(
            MockSettings(delay_s=0.001, echo=ECHO, responses=3, tool_calls=CALLS, token_ids=True, logprobs=True)
        )
        self._adapters.append(adapter)
        return adapter

    def known_tool_calls(self) -> KnownToolCalls:
        task = self.task(tools=tuple(Tool(name=call.name) for call in CALLS), max_tokens=64)
        return KnownToolCalls(task=task, calls=tuple((call.name, call.arguments) for call in CALLS))

    def known_tensors(self, datatype: Datatype, shape: tuple[int, ...] | None = None) -> KnownTensors:
        return echo_tensors("mock", datatype, shape=(2, 3) if shape is None else shape, output_name="INPUT0")

    def named_tensors(self) -> KnownTensors:
        tensors = (Tensor.from_bytes_elements("one", [b"1"]), Tensor.from_bytes_elements("other", [b"2"]))
        return KnownTensors(request=InferRequest(model="mock", inputs=tensors), outputs=tensors)

    def stray_tensors(self) -> InferRequest:
        raise Skipped("the mock takes inputs of any name")

    def known_stream(self) -> KnownResponses:
        tensor = Tensor.from_bytes_elements("one", [b"1"])
        return KnownResponses(request=InferRequest(model="mock", inputs=(tensor,)), responses=((tensor,),) * 3)

    def echo_task(self, **changes: Any) -> TaskRequest:
        return self.task(**({"model": ECHO} | changes))

    def echoed(self, answer: str) -> Echo:
        task = json.loads(answer)
        turns = (f"{turn['role']}: {turn['content']}" for turn in task.pop("messages", ()))
        return Echo(text=task.pop("prompt", None) or "\n".join(turns), fields=task)

    async def in_flight(self) -> int:
        return sum(len(adapter.running) for adapter in self._adapters)

    async def inferences(self) -> int:
        return sum(len(adapter.submitted) for adapter in self._adapters)

    async def make_unready(self) -> None:
        self._set_state(HealthState.STARTING)

    async def make_ready(self) -> None:
        self._set_state(HealthState.READY)

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        self._adapters[-1].fail_next(cast(ErrorCode, code), retry_after_s=retry_after_s)

    def _set_state(self, state: HealthState) -> None:
        for adapter in self._adapters:
            adapter.settings = adapter.settings.model_copy(update={"state": state})
