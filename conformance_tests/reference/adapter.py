"""An adapter with every capability, for the engine of `engine.py`.

It is cut into small methods, so that each mutant overrides one of them.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from adapter_api import (
    AdapterError,
    Alternative,
    CancelReceipt,
    Capability,
    Capacity,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    End,
    EngineProps,
    HealthReport,
    HealthState,
    InferRequest,
    InferResponse,
    InvalidRequest,
    Metrics,
    ModelHealth,
    ModelProps,
    PromptLogprobs,
    PromptToken,
    ProtocolViolation,
    Reasoning,
    Started,
    StreamIncomplete,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
    Unsupported,
    Usage,
    WorkerAdapter,
)
from adapter_api.testing import error_named
from conformance_tests.reference.engine import Broken, Engine, Fault, Job, Mode, Order, Piece, Unreachable

CAPABILITIES = frozenset(Capability) - {Capability.SHARED_MEMORY, Capability.MODEL_CONTROL}

TEXT_MODEL = "tiny"

_OPTIONS = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty",
    "repetition_penalty",
)  # fmt: skip


class ReferenceSettings(BaseModel):
    """What the adapter can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr = Field(default=SecretStr("reference-secret-5309"), description="presented to the engine")
    capabilities: frozenset[Capability] = CAPABILITIES


class ReferenceAdapter(WorkerAdapter):
    engine = "reference"
    heeds = frozenset({
        Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE,
        Capability.PROMPT_LOGPROBS,
    })  # fmt: skip
    version = "2.4"

    def __init__(self, settings: ReferenceSettings | None = None, server: Engine | None = None) -> None:
        self.settings = settings or ReferenceSettings()
        self.server = server or Engine()
        self.capabilities = self.settings.capabilities
        self.jobs: dict[str, Job] = {}
        self.turns: dict[int | str, anyio.Lock] = {}

    # -- text ---------------------------------------------------------------------------------------------------------

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        self._check(task)
        job = await self._begin(task)
        self.jobs[task.job_id] = job
        decoder = codecs.getincrementaldecoder("utf-8")()
        index = thoughts = 0
        try:
            yield self._started(task)
            for told in self._prompt_ids(task, job):
                yield told
            for scores in self._prompt_logprobs(task, job):
                yield scores
            while (piece := await self._next(job)) is not None:
                if ids := self._output_ids(task, piece):
                    yield ids
                if piece.kind == "thought":
                    yield self._thought(thoughts, piece)
                    thoughts += 1
                    continue
                if piece.kind == "call":
                    yield self._tool_call(piece)
                    continue
                text = self._decode(decoder, piece)
                if text:
                    yield self._token(task, index, text, piece)
                    index += 1
            if text := self._rest(decoder):
                yield Token(index, text)
            if job.answer.reason is None:
                raise StreamIncomplete("the engine closed the stream before it said that the answer is complete")
            usage = self._usage(job)
            yield self._metrics(usage)
            yield self._end(job, usage)
        finally:
            self._let_go(task, job)

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await self.server.submit(self._order(task))
        except Unreachable as exc:
            raise ConnectFailed("the engine cannot be reached; is it running?") from exc
        except Fault as exc:
            raise self._error(exc) from exc

    async def _next(self, job: Job) -> Piece | None:
        try:
            return await job.next()
        except Unreachable as exc:
            raise ConnectionLost("the connection to the engine broke while the task was running") from exc
        except Fault as exc:
            raise self._error(exc) from exc

    def _error(self, fault: Fault) -> AdapterError:
        error = error_named(fault.kind, f"the engine refused or failed {fault.subject}: {fault.kind}")
        error.retry_after_s = fault.retry_after_s
        return error

    def _check(self, task: TaskRequest) -> None:
        if missing := task.needs - self.capabilities:
            raise Unsupported(f"the reference engine cannot take {', '.join(sorted(missing))}")
        for name in task.parameters_for(self.engine):
            raise InvalidRequest(f"the reference engine takes no parameter {name!r}; leave it out")

    def _order(self, task: TaskRequest) -> Order:
        return Order(
            model=task.model,
            prompt=self._prompt(task),
            max_tokens=task.max_tokens or 16,
            stop=task.stop,
            seed=task.seed,
            json=task.response_format is not None,
            tools=bool(task.tools),
            options=self._options(task),
            model_version=task.model_version,
            prompt_ids=self._given_ids(task),
        )

    def _given_ids(self, task: TaskRequest) -> tuple[int, ...] | None:
        return task.prompt_token_ids

    def _prompt(self, task: TaskRequest) -> str:
        if task.prompt is not None:
            return task.prompt
        if task.prompt_token_ids is not None:
            return " ".join(map(str, task.prompt_token_ids))
        return "\n".join(f"{message.role}: {message.text}" for message in task.messages or ())

    def _options(self, task: TaskRequest) -> dict[str, Any]:
        """Return what the task asks for beside its text; the engine has its own defaults for the rest."""
        open_end = {"continue_final_message": True} if self._is_continued(task) else {}
        return {name: value for name in _OPTIONS if (value := getattr(task, name)) is not None} | open_end

    def _is_continued(self, task: TaskRequest) -> bool:
        return task.continue_final_message

    def _prompt_ids(self, task: TaskRequest, job: Job) -> list[TokenIds]:
        return [TokenIds(prompt=job.prompt_ids)] if task.return_token_ids else []

    def _prompt_logprobs(self, task: TaskRequest, job: Job) -> list[PromptLogprobs]:
        if task.prompt_logprobs is None:
            return []
        first = [self._prompt_token(task, id, None) for id in job.prompt_ids[:1]]  # none of a prompt without a word
        return [PromptLogprobs(tokens=(*first, *self._scored(task, list(job.prompt_ids[1:]))))]

    def _scored(self, task: TaskRequest, ids: list[int]) -> list[PromptToken]:
        return [self._prompt_token(task, id, -math.log(2 + place % 7)) for place, id in enumerate(ids)]

    def _prompt_token(self, task: TaskRequest, id: int, logprob: float | None) -> PromptToken:
        if logprob is None:
            return PromptToken(f"{id} ", token_id=id)
        most = range(1, (task.prompt_logprobs or 0) + 1)
        others = (Alternative(f"{id * rank} ", logprob * rank, id * rank, rank) for rank in most)
        return PromptToken(f"{id} ", logprob, id, 1, tuple(others))

    def _output_ids(self, task: TaskRequest, piece: Piece) -> TokenIds | None:
        return TokenIds(output=(piece.token_id,)) if task.return_token_ids else None

    def _started(self, task: TaskRequest) -> Started:
        return Started(job_id=task.job_id, engine=self.engine, engine_version=self.version, model=task.model)

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        try:
            return decoder.decode(piece.data)
        except UnicodeDecodeError as exc:
            raise ProtocolViolation("the engine sent bytes that are no UTF-8") from exc

    def _rest(self, decoder: codecs.IncrementalDecoder) -> str:
        """Return what stands for a character of which the rest does not come."""
        return "\ufffd" if decoder.getstate()[0] else ""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        if task.logprobs is None:
            return Token(index, text, piece.token_id)
        chosen = Alternative(text, piece.logprob, piece.token_id)
        # The engine's choice is always the likeliest; what comes after it is made up, each half as likely as the last.
        others = [Alternative(f"{text}{n}", piece.logprob - n * math.log(2)) for n in range(1, task.logprobs)]
        alternatives = (chosen, *others) if task.logprobs else ()
        return Token(index, text, piece.token_id, piece.logprob, alternatives=alternatives)

    def _thought(self, index: int, piece: Piece) -> Reasoning:
        return Reasoning(index, piece.data.decode())

    def _tool_call(self, piece: Piece) -> ToolCallDelta:
        return ToolCallDelta(piece.call, piece.id, piece.name, piece.data.decode())

    def _usage(self, job: Job) -> Usage:
        if Capability.USAGE not in self.capabilities:
            return Usage()
        return Usage(tokens_in=job.answer.tokens_in, tokens_out=job.answer.tokens_out)

    def _metrics(self, usage: Usage) -> Metrics:
        return Metrics(tokens_in=usage.tokens_in, tokens_out=usage.tokens_out)

    def _end(self, job: Job, usage: Usage) -> End:
        if Capability.FINISH_REASON not in self.capabilities or job.answer.reason is None:
            return End(finish_reason="unknown", usage=usage)
        return End(finish_reason=job.answer.reason, usage=usage)

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        job.abort()
        self.jobs.pop(task.job_id, None)

    async def _cancel(self, job_id: str) -> CancelReceipt:
        if Capability.CANCEL_HARD not in self.capabilities:
            return CancelReceipt(found=True, mode="client_only")
        job = self.jobs.get(job_id)
        if job is None:
            return CancelReceipt(found=True, mode="hard")
        job.abort()
        return CancelReceipt(found=True, sent=True, released=job not in self.server.busy(), mode="hard")

    # -- the engine ---------------------------------------------------------------------------------------------------

    async def _health(self, *, canary: bool) -> HealthReport:
        try:
            await self.server.answer()
        except Unreachable:
            return HealthReport(
                state=HealthState.UNREACHABLE, live=False, ready=False, detail="nothing answers at the engine's address"
            )
        if canary:
            self.server.inferences += 1
        ready = self.server.mode is not Mode.UNREADY
        return HealthReport(
            state=HealthState.READY if ready else HealthState.STARTING,
            live=True,
            ready=ready,
            models=tuple(ModelHealth(name=name, ready=ready) for name in self.server.models),
            capacity=self._capacity(),
            detail="" if ready else "the engine is loading its models",
            canary=canary,
        )

    def _capacity(self) -> Capacity:
        slots, busy = self.server.slots, len(self.server.busy())
        return Capacity(slots_total=slots, slots_free=slots - busy, in_flight=len(self.jobs))

    async def _props(self) -> EngineProps:
        try:
            await self.server.answer()
        except Unreachable as exc:
            raise ConnectFailed("the engine cannot be reached; is it running?") from exc
        capacity = self._capacity()
        return EngineProps(
            engine=self.engine,
            engine_version=self.version,
            capabilities=self.capabilities,
            models=(ModelProps(name=TEXT_MODEL, ready=True, capabilities=self.capabilities),),
            slots_total=capacity.slots_total,
            slots_free=capacity.slots_free,
        )

    # -- tensors ------------------------------------------------------------------------------------------------------

    async def _infer(self, request: InferRequest) -> InferResponse:
        if Capability.TENSORS not in self.capabilities:
            raise Unsupported("the reference engine takes no tensors")
        with anyio.move_on_after(request.timeout_s):
            async with self._turn(request):
                return self._response(request, await self._outputs(request))
        raise DeadlineExceeded(f"the inference did not end within its {request.timeout_s:g} s", stage="total")

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        try:
            return await self.server.infer(request.model, request.inputs, request.sequence)
        except Broken as exc:
            raise ConnectionLost("the connection to the engine broke while it worked on the inference") from exc
        except Unreachable as exc:
            raise ConnectFailed("the engine cannot be reached; is it running?") from exc
        except Fault as exc:
            raise self._error(exc) from exc

    def _turn(self, request: InferRequest) -> anyio.Lock:
        """Return the lock, first come first served, under which the requests of one sequence take turns."""
        sequence = request.request_id if request.sequence is None else request.sequence.id
        return self.turns.setdefault(sequence, anyio.Lock())

    def _response(self, request: InferRequest, outputs: list[Tensor]) -> InferResponse:
        wanted = {output.name for output in request.outputs}
        return InferResponse(
            model=request.model,
            request_id=request.request_id,
            outputs=tuple(output for output in outputs if not wanted or output.name in wanted),
        )

    async def _infer_stream(self, request: InferRequest) -> AsyncGenerator[InferResponse]:
        """Yield one response per byte of the first input."""
        if Capability.TENSOR_STREAM not in self.capabilities:
            raise Unsupported("the reference engine streams no tensors")
        tensor = request.inputs[0]
        for byte in bytes(tensor.data):
            row = Tensor(tensor.name, "UINT8", (1,), bytes([byte]))
            yield await self._infer(msgspec.structs.replace(request, inputs=(row,)))
