"""A harness that can do everything, for the reference adapter and for the mutants made of it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import Any

import msgspec

from adapter_api import (
    Capability,
    Datatype,
    ImagePart,
    InferRequest,
    Message,
    PluginHost,
    Sequence,
    TaskRequest,
    Tensor,
    TextPart,
    Tool,
    WorkerAdapter,
    load_plugins,
)
from adapter_api.hookspecs import PROJECT
from conformance_tests.harness import (
    Backend,
    Harness,
    KnownReasoning,
    KnownResponses,
    KnownTensors,
    KnownText,
    KnownToolCalls,
)
from conformance_tests.outcome import Skipped
from conformance_tests.reference.adapter import CAPABILITIES, ReferenceAdapter, ReferenceSettings
from conformance_tests.reference.answers import CALLS, CUT, ECHO, NOTHING, SPLIT, THINK, THOUGHTS
from conformance_tests.reference.engine import MIRROR, SLOW, VERSIONS, Engine, Fault, Mode
from conformance_tests.tensor_cases import echo_tensors, sample_tensor

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class ReferenceHarness(Harness):
    name = "reference"
    plugin = "reference"
    model = "tiny"
    streams = 50
    most_ahead = 1000
    control_timeout_s = 0.5
    settle_s = 1.0
    echo_versions = VERSIONS
    plugin_module = "conformance_tests.reference.plugin"
    """What the entry point names; none is installed, so that the reference is in nobody's list of adapters."""

    def __init__(
        self,
        *,
        adapter_class: type[ReferenceAdapter] = ReferenceAdapter,
        capabilities: frozenset[Capability] = CAPABILITIES,
        backend: Backend = "asyncio",
        pace_s: float = 0.002,
    ) -> None:
        self.settings = ReferenceSettings(capabilities=capabilities)
        self.pace_s = pace_s
        self.engine = Engine(pace_s=pace_s)
        self.adapter_class = adapter_class
        self.backend = backend

    async def reset(self) -> None:
        self.engine = Engine(pace_s=self.pace_s)

    def adapter(self) -> WorkerAdapter:
        return self.adapter_class(self.settings, self.engine)

    def images_task(self) -> TaskRequest:
        parts = (TextPart(text="What is this?"), ImagePart(data=_PIXEL, media_type="image/png"))
        return self.task(prompt=None, messages=(Message(role="user", content=parts),))

    def known_tool_calls(self) -> KnownToolCalls:
        tools = tuple(Tool(name=name, parameters={"type": "object"}) for name, _, _ in CALLS)
        calls = tuple((name, "".join(arguments)) for name, _, arguments in CALLS)
        return KnownToolCalls(task=self.task(tools=tools), calls=calls)

    def known_reasoning(self) -> KnownReasoning:
        text = "forty two"
        return KnownReasoning(task=self.task(prompt=THINK + text), reasoning="".join(THOUGHTS), text=text)

    def empty_task(self) -> TaskRequest:
        return self.task(prompt=NOTHING)

    def known_text(self) -> KnownText:
        text = "the quick  brown\nfox jumps over\nthe lazy dog"
        return KnownText(task=self.task(prompt=ECHO + text, max_tokens=64), text=text, tokens_in=9, tokens_out=8)

    def split_text(self) -> KnownText:
        text = "naïve 日本 🙂 the end…"
        return KnownText(task=self.task(prompt=SPLIT + text, max_tokens=64), text=text)

    def cut_text(self) -> KnownText:
        text = "un café et la moitié d'un "
        return KnownText(task=self.task(prompt=f"{CUT}{text}é"), text=text)

    def echo_task(self, **changes: Any) -> TaskRequest:
        return self.task(**({"model": MIRROR} | changes))

    def slow_tensors(self) -> InferRequest:
        return InferRequest(model=SLOW, inputs=(sample_tensor("INPUT0", "FP32", (1,)),))

    def known_tensors(self, datatype: Datatype, shape: tuple[int, ...] | None = None) -> KnownTensors:
        return echo_tensors("echo", datatype, shape=(2, 3) if shape is None else shape)

    def misfit_tensors(self) -> InferRequest:
        return InferRequest(model="swap", inputs=(sample_tensor("INPUT0", "FP32", (1,)),))

    def known_stream(self) -> KnownResponses:
        tensor = Tensor("INPUT0", "UINT8", (3,), b"\x01\x02\x03")
        rows = [Tensor("OUTPUT0", "UINT8", (1,), bytes([value])) for value in (1, 2, 3)]
        return KnownResponses(
            request=InferRequest(model="repeat", inputs=(tensor,)), responses=tuple((row,) for row in rows)
        )

    def known_sequence(self) -> tuple[KnownTensors, ...]:
        def step(at: int) -> KnownTensors:
            tensor = Tensor("INPUT0", "UINT8", (1,), bytes([at + 1]))
            sequence = Sequence(id=5309, start=at == 0, end=at == 4)
            request = InferRequest(model="sum", inputs=(tensor,), sequence=sequence)
            return KnownTensors(request=request, outputs=(Tensor("OUTPUT0", "UINT8", (2,), bytes([at, at + 1])),))

        return tuple(step(at) for at in range(5))

    def named_tensors(self) -> KnownTensors:
        first = Tensor.from_bytes_elements("INPUT0", [b"first"])
        second = Tensor.from_bytes_elements("INPUT1", [b"second"])
        outputs = tuple(msgspec.structs.replace(t, name=t.name.replace("INPUT", "OUTPUT")) for t in (first, second))
        return KnownTensors(request=InferRequest(model="swap", inputs=(first, second)), outputs=outputs)

    async def in_flight(self) -> int:
        return len(self.engine.busy()) + self.engine.inferring

    async def inferences(self) -> int:
        return self.engine.inferences

    async def emitted(self) -> int:
        return self.engine.emitted

    async def stop_engine(self) -> None:
        self.engine.set_mode(Mode.DOWN)

    async def start_engine(self) -> None:
        self.engine.set_mode(Mode.UP)

    async def pause_engine(self) -> None:
        self.engine.set_mode(Mode.PAUSED)

    async def resume_engine(self) -> None:
        self.engine.set_mode(Mode.UP)

    async def make_unready(self) -> None:
        self.engine.set_mode(Mode.UNREADY)

    async def make_ready(self) -> None:
        self.engine.set_mode(Mode.UP)

    async def drop_streams(self) -> None:
        self.engine.drop_streams()

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        if code in ("closed", "adapter_failed", "job_conflict"):
            raise Skipped(f"no engine fails with {code}")
        self.engine.failures.append(Fault(code, retry_after_s))

    async def fail_quoting(self) -> None:
        self.engine.quotes = True

    def load_plugins(self) -> PluginHost:
        return load_plugins(block=(), entry_points=[EntryPoint("reference", self.plugin_module, PROJECT)])

    def secrets(self) -> Iterable[str]:
        return (self.settings.token.get_secret_value(),)
