"""The contract on one Triton server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar
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
    InvalidRequest,
    ModelProps,
    TaskRequest,
    Token,
    Unsupported,
    WorkerAdapter,
)
from adapter_api.stream import EventSource
from triton_adapter.engine.engine import Engine
from triton_adapter.engine.sequences import SequenceSession
from triton_adapter.server.description import describe, describe_one
from triton_adapter.server.health import probe
from triton_adapter.server.models import Models
from triton_adapter.settings import TritonSettings
from triton_adapter.tasks.generation import Generation
from triton_adapter.tensors import inference, trial
from triton_adapter.tensors.batching import infer_batch
from triton_adapter.transports.base import Transport
from triton_adapter.transports.choosing import make_transport
from triton_adapter.wire.json_form import json_form


class TritonAdapter(WorkerAdapter):
    """Any model in one Triton server, by native gRPC or by HTTP. It needs asyncio.

    Opening does not connect: the first use does. `models` has the server's repository, statistics and settings.
    """

    engine: ClassVar[str] = "triton"
    heeds = frozenset({Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE})

    def __init__(self, settings: TritonSettings | None = None, *, transport: Transport | None = None) -> None:
        self.settings = settings or TritonSettings()
        self.control_timeout_s = self.settings.control_timeout_s
        self._transport = transport
        self._generations: WeakValueDictionary[str, Generation] = WeakValueDictionary()

    @property
    def models(self) -> Models:
        """Control of the server's model repository; the adapter must be open."""
        self._require_open()
        return self._models

    async def infer_batch(
        self, requests: Sequence[InferRequest], *, at_once: int = 16
    ) -> list[InferResponse | AdapterError]:
        """Run many inferences and return one response, or its error, per request, in their order.

        Requests that differ only in their rows are merged up to the model's `max_batch_size`; the others go side by
        side, `at_once` of them.

        Raises:
            AdapterError: A model cannot be asked what it declares; nothing was sent then.
        """
        self._require_open()
        schemas = [await self._engine.schemas.get(request.model, request.model_version) for request in requests]
        return await infer_batch(requests, schemas, self.infer, at_once=at_once)

    def sequence(self, model: str, *, id: int | str | None = None, model_version: str | None = None) -> SequenceSession:
        """Return a stateful sequence on a model, to be used with `async with`; an id is made when none is given."""
        self._require_open()
        return SequenceSession(self.infer, model, id=id, model_version=model_version)

    async def serialized_config(self, model: str) -> bytes | None:
        """Return a model's `inference.ModelConfig` as the server sent it; `None` where it tells none.

        Raises:
            AdapterError: The server cannot be asked.
        """
        self._require_open()
        return await self._engine.schemas.config_of(model)

    async def _open(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError("the Triton adapter needs asyncio; this event loop is another") from None
        self._engine = Engine(
            self.settings, self._transport or make_transport(self.settings), wanted=lambda: self.named_models
        )
        self._models = Models(self._engine, self._ask_for_anything)

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
        mode, sent = generation.mode, generation.sent
        if sent:
            generation.stop_too()
        # The guard closes the generator right after this, and with it the call: that is what tells the engine.
        released = True if not sent else None
        return CancelReceipt(found=True, sent=sent and mode != "client_only", released=released, mode=mode)

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await probe(self._engine)
        if not canary or not report.live:
            return report
        return await self._with_canary(report)

    async def _with_canary(self, report: HealthReport) -> HealthReport:
        """Send a one-token task to a model that takes text, and let it decide."""
        model = self.settings.model or await self._some_text_model()
        if model is None:
            return msgspec.structs.replace(report, detail=report.detail or "no model for a canary: none takes text")
        try:
            await self._ask_for_text(model)
        except AdapterError as exc:
            state = HealthState.DEGRADED if report.state is HealthState.READY else report.state
            detail = f"the canary failed: {exc.message}"
            return msgspec.structs.replace(report, canary=True, state=state, detail=detail)
        return msgspec.structs.replace(await probe(self._engine), canary=True)

    async def _ask_for_anything(self, model: str) -> bool:
        """Have a model answer a text, or tensors made up of what it declares; return whether it could be asked."""
        try:
            await self._ask_for_text(model)
        except (InvalidRequest, Unsupported):
            return await trial.answers(self._engine, model, timeout_s=self.control_timeout_s * 0.8)
        return True

    async def _ask_for_text(self, model: str) -> None:
        try:
            await self._first_token(model, max_tokens=1)
        except Unsupported:
            await self._first_token(model)  # some faces have no place for `max_tokens`

    async def _first_token(self, model: str, **fields: Any) -> None:
        """Run a task until something comes of it; what would come after that is cancelled."""
        task = TaskRequest(model=model, prompt="ping", timeout_s=self.control_timeout_s * 0.8, **fields)
        async with aclosing(Generation(self._engine, task).events()) as stream:
            async for events in stream:
                if "max_tokens" not in fields and _has_token(events):
                    return

    async def _some_text_model(self) -> str | None:
        """Return a language model, else any model that takes text."""
        texts = [model for model in (await describe(self._engine)).models if Capability.TEXT in model.capabilities]
        texts.sort(key=lambda model: (Capability.USAGE not in model.capabilities, model.name))
        return texts[0].name if texts else None

    async def _props(self) -> EngineProps:
        return await describe(self._engine)

    async def _model_props(self, model: str) -> ModelProps:
        return await describe_one(self._engine, model)

    async def _model_config(self, model: str, version: str | None) -> dict[str, Any]:
        config = await self._engine.schemas.declared(model, version)
        if config is None:
            raise Unsupported(f"{self._engine.what(model)}: this server tells no configuration of models")
        return json_form(config)

    async def _load_model(self, model: str, config: str | None, files: Mapping[str, bytes]) -> None:
        await self._models.load(model, config=config, files=files)

    async def _unload_model(self, model: str, *, dependents: bool) -> None:
        await self._models.unload(model, dependents=dependents)

    def _infer(self, request: InferRequest) -> Coroutine[Any, Any, InferResponse]:
        return inference.infer(self._engine, request)

    def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        return inference.infer_stream(self._engine, request)


def _has_token(events: object) -> bool:
    return any(isinstance(event, Token) for event in (events if isinstance(events, list) else (events,)))
