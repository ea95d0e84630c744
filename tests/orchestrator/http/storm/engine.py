"""An engine that does what its prompts say, and can be killed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import msgspec
import numpy as np

from adapter_api import (
    Capability,
    ConnectionLost,
    EngineProps,
    HealthReport,
    HealthState,
    InferRequest,
    InferResponse,
    ModelHealth,
    Overloaded,
    Started,
    TaskRequest,
    Tensor,
    TensorSpec,
    Token,
    TokenEvent,
    Usage,
)
from adapter_api.errors import EngineFailed
from adapter_api.events import End
from adapter_api.testing import MockAdapter

HOW = ("quick", "slow", "hang", "silent", "fail", "fail-late", "overloaded", "calls", "bug", "lingers", "thinks")
"""What a prompt may ask for, as `how=slow`."""
_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 20, "b": 22}}\n</tool_call>'
BATCH = 4


class StormyEngine(MockAdapter):
    """Its model `mock` writes text, and `vectors` embeds, four texts at a time."""

    all: ClassVar[set[StormyEngine]] = set()
    """Those that are open."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.killed = anyio.Event()
        self.inferring = 0

    async def _open(self) -> None:
        await super()._open()
        self.all.add(self)

    async def _close(self) -> None:
        self.all.discard(self)
        await super()._close()

    def kill(self) -> None:
        """End all that runs, and all that comes, until `revive`."""
        self.settings = self.settings.model_copy(update={"state": HealthState.UNREACHABLE})
        self.killed.set()

    def revive(self) -> None:
        self.settings = self.settings.model_copy(update={"state": HealthState.READY})
        self.killed = anyio.Event()

    async def _props(self) -> EngineProps:
        props = await super()._props()
        text = msgspec.structs.replace(props.models[0], capabilities=props.models[0].capabilities - _TENSORS)
        vectors = msgspec.structs.replace(
            props.models[0], name="vectors", max_batch_size=BATCH, capabilities=_TENSORS,
            inputs=(TensorSpec("text", "BYTES", (-1, 1)),), outputs=(TensorSpec("vector", "FP32", (-1, 2)),),
        )  # fmt: skip
        return msgspec.structs.replace(props, models=(text, vectors))

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        names = [*(model.name for model in report.models), "vectors"]
        models = tuple(ModelHealth(name=name, ready=report.ready, version="1") for name in names)
        return msgspec.structs.replace(report, models=models)

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        found = re.search(r"how=([a-z-]+)", task.prompt or "")
        how = found[1] if found else "quick"
        self.running.add(task.job_id)
        try:
            await self._while_alive(0.0)
            if how == "silent":
                await self._while_alive(None)
            if how == "fail":
                raise EngineFailed("it broke")
            if how == "overloaded":
                raise Overloaded("no room", retry_after_s=0.01)
            yield Started(job_id=task.job_id, engine="mock", engine_version="1.0", model=task.model)
            texts = _texts(how)
            for index, text in enumerate(texts):
                await self._while_alive(0.003 if how in ("slow", "lingers", "calls", "thinks") else 0.0)
                yield Token(index=index, text=text)
                if index == 1:
                    if how == "hang":
                        await self._while_alive(None)
                    if how == "fail-late":
                        raise EngineFailed("it broke late")
                    if how == "bug":
                        raise RuntimeError("a bug of the adapter")
            yield End(finish_reason="stop", usage=Usage(tokens_in=3, tokens_out=len(texts)))
        finally:
            try:
                if how == "lingers":
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.01)
            finally:  # a second cancellation may cut that short
                self.running.discard(task.job_id)

    async def _infer(self, request: InferRequest) -> InferResponse:
        [tensor] = request.inputs
        texts = [each.decode() for each in tensor.elements()]
        self.inferring += 1
        try:
            await self._while_alive(None if any("how=hang" in text for text in texts) else 0.002)
        finally:
            self.inferring -= 1
        if any("how=fail" in text for text in texts):
            raise EngineFailed("it broke")
        vectors = np.array([[len(text), ord(text[0])] for text in texts], "float32")
        return InferResponse(model=request.model, outputs=(Tensor.from_numpy("vector", vectors),))

    async def _while_alive(self, seconds: float | None) -> None:
        """Wait so long, for ever if `None`; raises when the engine is killed meanwhile, or was."""
        with anyio.move_on_after(seconds):
            await self.killed.wait()
        await anyio.lowlevel.checkpoint()
        if self.killed.is_set():
            raise ConnectionLost("the engine died")


_TENSORS = frozenset({Capability.TENSORS})


def _texts(how: str) -> list[str]:
    if how == "calls":
        text = f"I add. {_CALL} and {_CALL}"
    elif how == "thinks":
        text = "<think>Well, well.</think>It is 42."
    else:
        text = "one two three four five six seven eight"
    return [text[at : at + 7] for at in range(0, len(text), 7)]
