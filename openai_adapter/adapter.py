"""The contract on one OpenAI-compatible engine."""

from __future__ import annotations

import asyncio
from typing import ClassVar
from weakref import WeakValueDictionary

import msgspec

from adapter_api import (
    AdapterError,
    CancelReceipt,
    Capability,
    ConfigurationError,
    EngineProps,
    HealthReport,
    HealthState,
    InferRequest,
    InferResponse,
    Message,
    ModelProps,
    TaskRequest,
    WorkerAdapter,
)
from adapter_api.stream import EventSource
from openai_adapter import embeddings
from openai_adapter.engine.engine import Engine
from openai_adapter.server.description import describe, describe_one
from openai_adapter.server.health import probe, with_load
from openai_adapter.settings import OpenAISettings
from openai_adapter.tasks.generation import Generation

_CANARY_SHARE = 0.6


class OpenAIAdapter(WorkerAdapter):
    """Any model of one engine with OpenAI's HTTP API. It needs asyncio.

    Opening does not connect: the first use does.
    """

    engine: ClassVar[str] = "openai"
    heeds = frozenset({
        Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE,
        Capability.PROMPT_LOGPROBS,
    })  # fmt: skip

    def __init__(self, settings: OpenAISettings | None = None) -> None:
        self.settings = settings or OpenAISettings()
        self.control_timeout_s = self.settings.control_timeout_s
        self._generations: WeakValueDictionary[str, Generation] = WeakValueDictionary()

    async def _open(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError("the openai adapter needs asyncio; this event loop is another") from None
        self._engine = Engine(self.settings, wanted=lambda: self.named_models)

    async def _close(self) -> None:
        if hasattr(self, "_engine"):
            await self._engine.aclose()

    def _submit(self, task: TaskRequest) -> EventSource:
        generation = Generation(self._engine, task)
        self._generations[task.job_id] = generation
        return generation.events()

    async def _cancel(self, job_id: str) -> CancelReceipt:
        generation = self._generations.get(job_id)
        if generation is None:
            return CancelReceipt(found=True, sent=False, mode="client_only")
        # The guard closes the generator right after this, and with it the connection: that is what tells the engine.
        sent = generation.sent
        return CancelReceipt(found=True, sent=sent, released=None if sent else True, mode=generation.mode)

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await with_load(self._engine, await probe(self._engine))
        return await self._with_canary(report) if canary and report.ready else report

    async def _with_canary(self, report: HealthReport) -> HealthReport:
        """Send a one-token task to a model that takes text, and let it decide."""
        props = await describe(self._engine)
        model = self.settings.model or next((model.name for model in props.models), None)
        if model is None:
            return msgspec.structs.replace(report, detail=report.detail or "no model for a canary")
        described = next((each for each in props.models if each.name == model), None)
        by_prompt = described is not None and Capability.TEXT in described.capabilities
        asked = {"prompt": "ping"} if by_prompt else {"messages": (Message(role="user", content="ping"),)}
        task = TaskRequest.parse(
            {"model": model, "max_tokens": 1, "timeout_s": self.control_timeout_s * _CANARY_SHARE, **asked}
        )
        try:
            async for _ in Generation(self._engine, task).events():
                pass
        except AdapterError as exc:
            state = HealthState.DEGRADED if report.state is HealthState.READY else report.state
            return msgspec.structs.replace(report, canary=True, state=state, detail=f"the canary failed: {exc.message}")
        return msgspec.structs.replace(report, canary=True)

    async def _props(self) -> EngineProps:
        return await describe(self._engine)

    async def _model_props(self, model: str) -> ModelProps:
        return await describe_one(self._engine, model)

    async def _infer(self, request: InferRequest) -> InferResponse:
        return await embeddings.infer(self._engine, request)
