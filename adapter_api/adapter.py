"""The contract between an orchestrator and an engine.

Public methods are final and check states, deadlines and results; authors implement the underscored ones:

    _submit(task)        required: an async generator of events
    _health()            required: how the engine is
    _props()             required: what the engine is
    _open() / _close()   get and release what the adapter needs
    _cancel(job_id)      tell the engine to stop, when closing the generator is not enough
    _model_props(model)  what one model is, when the engine can be asked about one without describing all
    _model_config(model, version)   a model's configuration, when the engine has one
    _load_model(…) / _unload_model(…)   control of its models, when the engine has it
    _infer(request) / _infer_stream(request)   tensors, when the engine has them
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import Any, ClassVar, Self, final
from weakref import WeakValueDictionary

import anyio
import msgspec

from adapter_api.answers import Broke, T, WrongAnswer, answer_of, items_of
from adapter_api.cancel import CancelReceipt
from adapter_api.errors import AdapterClosed, AdapterError, DeadlineExceeded, JobConflict, ModelNotFound, Unsupported
from adapter_api.events import End, Error, TokenEvent
from adapter_api.health import HealthReport, HealthState
from adapter_api.props import Capability, EngineProps, ModelProps
from adapter_api.stream import CLOSE_GRACE_S, EventSource, TokenStream
from adapter_api.task import TaskRequest
from adapter_api.tensor_stream import TensorStream
from adapter_api.tensors import InferRequest, InferResponse

_log = logging.getLogger("adapter_api.adapter")

_NAMED_AT_MOST = 10


class WorkerAdapter(ABC):
    """Speaks to one replica of an engine. Safe for concurrent tasks; open it before use:

        async with MyAdapter(settings) as adapter:
            async for event in adapter.submit(task):
                ...

    Nothing starts in `__init__`. Closing ends every live stream with one terminal event and releases everything, even
    if the engine does not answer.
    """

    engine: ClassVar[str]
    """The engine's short name, as in `started.engine`."""

    heeds: ClassVar[frozenset[Capability]] = frozenset()
    """What `_submit` looks at of that which later versions of the contract brought: `prompt_token_ids`, `token_ids` and
    `continue_final_message` of 1.2. A task that asks for another of these is refused here as `unsupported`: whoever
    wrote the adapter before they were there would answer as if nobody had asked."""

    control_timeout_s: float = 5.0
    """Seconds that `cancel`, `health`, `props` and closing may each take."""

    named_models: frozenset[str] = frozenset()
    """Models that a host wants to use, by name. An engine that does not list its models can be asked about
    these; a host may set it at any time."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        overridden = sorted(_FINAL & vars(cls).keys())
        if overridden:
            raise TypeError(f"{cls.__name__} overrides final methods {overridden}; implement the underscored ones")

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    @final
    async def __aenter__(self) -> Self:
        """Open the adapter. Releases what `_open` had got so far when that raises.

        Raises:
            AdapterClosed: It was opened before: an adapter opens once.
            AdapterError: What `_open` raised; `AdapterFailed` for anything that is not of the contract.
        """
        if self._lifecycle != "new":
            raise AdapterClosed(f"this {self.engine} adapter is {self._lifecycle}; make a new one")
        self._lifecycle = "open"
        try:
            await self._answer(self._open, object)
        except BaseException:
            await self.aclose()
            raise
        return self

    @final
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @final
    async def aclose(self) -> None:
        """Close the adapter: end live streams with an `Error` of code `closed`, release everything.

        Idempotent: whoever closes it while somebody else does waits until that is done. Raises nothing; what `_close`
        raises is logged.
        """
        was_open, self._lifecycle = self._lifecycle == "open", "closed"
        if not was_open:
            if self._closing is not None:
                with anyio.move_on_after(self.control_timeout_s + CLOSE_GRACE_S):
                    await self._closing.wait()
            return
        closing = AdapterClosed("the adapter was closed while the task was running", retryable=True)
        self._closing = anyio.Event()
        for stream in list(self._streams.values()):
            stream.ask_to_stop(closing)  # at once: whoever closes may be cancelled before the group below begins
        try:
            with anyio.CancelScope(shield=True):
                # Together rather than one by one: each may take the guard's whole grace.
                async with anyio.create_task_group() as stopping:
                    for stream in list(self._streams.values()):
                        stopping.start_soon(stream.stop, closing)
                with anyio.move_on_after(self.control_timeout_s):
                    await self._answer(self._close, object)
        except AdapterError as exc:
            _log.warning("the %s adapter did not close in order: %s", self.engine, exc.message)
        finally:
            self._closing.set()

    # -- tasks --------------------------------------------------------------------------------------------------------

    @final
    def submit(self, task: TaskRequest) -> TokenStream:
        """Return the task's stream. The task starts when the stream is first read.

        Never raises for a `TaskRequest`: a closed adapter, a `job_id` that is running already, an engine that is gone,
        an author's `_submit` that is no generator all arrive as the stream's `Error`. `task.timeout_s` counts from
        this call.

        Raises:
            TypeError: `task` is not a `TaskRequest`.
        """
        if not isinstance(task, TaskRequest):
            raise TypeError(f"submit takes a TaskRequest, not {type(task).__name__}; see TaskRequest.parse")
        if self._lifecycle != "open":
            return _failed_stream(task, AdapterClosed(f"this {self.engine} adapter is {self._lifecycle}, not open"))
        live = self._streams.get(task.job_id)
        if live is not None and not live.finished:
            return _failed_stream(task, JobConflict(f"a task with job_id {task.job_id!r} is already running here"))
        if (asked := task.needs_heed) and not asked <= self.heeds:
            named = ", ".join(sorted(asked - self.heeds))
            return _failed_stream(task, Unsupported(f"the {self.engine} adapter does not know {named}; leave it out"))
        try:
            source = items_of(self._submit, task)
        except AdapterError as exc:
            stream = _failed_stream(task, exc)
            stream.repairs = int(isinstance(exc, WrongAnswer | Broke))
            return stream
        stream = TokenStream(source, job_id=task.job_id, timeout_s=task.timeout_s, on_finished=self._forget)
        self._streams[task.job_id] = stream
        return stream

    @final
    async def cancel(self, job_id: str) -> CancelReceipt:
        """Stop a task of this adapter and say what that did.

        The stream ends with `End(finish_reason="cancelled")`; once the receipt says `acknowledged` no token follows.
        Never raises, takes at most `control_timeout_s` and the guard's grace; an unknown or finished task is
        `found=False`. Calling it twice is harmless.
        """
        began = perf_counter()
        stream = self._streams.get(job_id)
        if stream is None or stream.finished:
            return CancelReceipt(found=False, after_ms=(perf_counter() - began) * 1e3)
        receipt = CancelReceipt(found=True)
        try:
            with anyio.move_on_after(self.control_timeout_s):
                receipt = await self._answer(self._cancel, CancelReceipt, job_id)
        except AdapterError as exc:
            # The engine could not be told. Closing the stream below is what is left, and the receipt says so.
            _log.warning("the %s adapter could not cancel job %s: %s", self.engine, job_id, exc)
        await stream.stop(End(finish_reason="cancelled"))
        return msgspec.structs.replace(
            receipt, found=True, acknowledged=stream.quiet, after_ms=(perf_counter() - began) * 1e3
        )

    @final
    @property
    def live_jobs(self) -> tuple[str, ...]:
        """The `job_id`s of the tasks that have not ended."""
        return tuple(job_id for job_id, stream in self._streams.items() if not stream.finished)

    # -- the engine ---------------------------------------------------------------------------------------------------

    @final
    async def health(self, *, canary: bool = False) -> HealthReport:
        """Return how the engine is, within `control_timeout_s`. Reports, never raises, and never sends an inference.

        Args:
            canary: Send one small inference too, where the adapter has one to send; the report is marked then.
        """
        began, checked_at = perf_counter(), time.time()
        if self._lifecycle != "open":
            report = HealthReport(state=HealthState.STOPPED, live=False, ready=False, detail="the adapter is not open")
        else:
            report = _unreachable(f"no answer within {self.control_timeout_s:g} s")
            try:
                with anyio.move_on_after(self.control_timeout_s):
                    report = await self._answer(self._health, HealthReport, canary=canary)
            except AdapterError as exc:
                report = _unreachable(exc.message)
        return msgspec.structs.replace(report, latency_s=perf_counter() - began, checked_at=checked_at)

    @final
    async def props(self) -> EngineProps:
        """Return what the engine is and can do.

        Raises:
            AdapterError: The engine cannot be asked; `DeadlineExceeded` after `control_timeout_s`.
        """
        self._require_open()
        with anyio.move_on_after(self.control_timeout_s):
            return await self._answer(self._props, EngineProps)
        raise DeadlineExceeded(
            f"the engine did not describe itself within {self.control_timeout_s:g} s", stage="control"
        )

    @final
    async def model_props(self, model: str) -> ModelProps:
        """Return what one model is and can do, asked for by its name: the engine need not list its models.

        Raises:
            ModelNotFound: The engine has no such model.
            AdapterError: It cannot be asked; `DeadlineExceeded` after `control_timeout_s`.
        """
        self._require_open()
        with anyio.move_on_after(self.control_timeout_s):
            return await self._answer(self._model_props, ModelProps, model)
        raise DeadlineExceeded(
            f"the engine did not describe model {model!r} within {self.control_timeout_s:g} s", stage="control"
        )

    @final
    async def model_config(self, model: str, version: str | None = None) -> dict[str, Any]:
        """Return a model's configuration in the JSON form of Triton's `ModelConfig`: names as in `config.pbtxt`, whole
        numbers as numbers.

        Args:
            model: Its name.
            version: Which version; the one that serves when absent.

        Raises:
            ModelNotFound: The engine has no such model.
            Unsupported: The engine has no such configuration.
            AdapterError: It cannot be asked; `DeadlineExceeded` after `control_timeout_s`.
        """
        self._require_open()
        with anyio.move_on_after(self.control_timeout_s):
            return await self._answer(self._json_config, dict, model, version)
        raise DeadlineExceeded(
            f"the engine did not tell the configuration of model {model!r} within {self.control_timeout_s:g} s",
            stage="control",
        )

    @final
    async def load_model(
        self, model: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Have the engine load a model from its repository, and return once it is ready. Takes as long as that takes.

        Args:
            model: Its name there.
            config: A whole configuration, as JSON text, to use instead of the repository's.
            files: The model's files by path, instead of the repository's; they need `config`.

        Raises:
            ModelNotFound: Its repository has no such model.
            Unsupported: It loads no models when it is told to.
            AdapterError: It does not load.
        """
        self._require_open()
        await self._answer(self._load_model, object, model, config, files or {})

    @final
    async def unload_model(self, model: str, *, dependents: bool = False) -> None:
        """Have the engine unload a model, and what only that one needs (`dependents`): it takes nothing new, what runs
        may finish. Raises like `load_model`.
        """
        self._require_open()
        await self._answer(self._unload_model, object, model, dependents=dependents)

    @final
    async def engine_version(self) -> str | None:
        """Return the engine's version, with those of its backends where visible; `None` when it does not say.

        Raises like `props`.
        """
        return (await self.props()).engine_version

    # -- tensors ------------------------------------------------------------------------------------------------------

    @final
    async def infer(self, request: InferRequest) -> InferResponse:
        """Run one inference and return its one response.

        Raises:
            AdapterError: It failed; `Unsupported` when the adapter has no tensors or the model streams its responses.
        """
        if self._lifecycle != "open":
            self._require_open()
        try:
            return await answer_of(self._infer, InferResponse, request)
        except (WrongAnswer, Broke):
            self._repairs += 1
            raise

    @final
    def infer_stream(self, request: InferRequest) -> TensorStream:
        """Return the responses of one inference as they arrive; iterating raises like `infer`, closing cancels."""
        self._require_open()
        try:
            return TensorStream(items_of(self._infer_stream, request))
        except AdapterError as exc:
            return TensorStream(_raising(exc))

    # -- for authors --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _submit(self, task: TaskRequest) -> EventSource:
        """Run one task: an async generator that yields events, or lists of the events that are ready together.

        Yield `Started` once the task is on its way, tokens with indices from 0, and one `End`; raise an `AdapterError`
        for anything that goes wrong. Stop the engine in a `finally`: the guard closes the generator when the task is
        cancelled, abandoned, or out of time. Hold no cancel scope or task group across a `yield` (PEP 789). Called
        once per task, many at a time.
        """

    @abstractmethod
    async def _health(self, *, canary: bool) -> HealthReport:
        """Return how the engine is; `latency_s` and `checked_at` are filled in. Send no inference unless `canary`."""

    @abstractmethod
    async def _props(self) -> EngineProps:
        """Return what the engine is. Declare only capabilities that work; `None` for what it does not tell."""

    async def _model_props(self, model: str) -> ModelProps:
        """Return what one model is. Looked up in `_props` unless implemented."""
        props = await self._props()
        for found in props.models:
            if found.name == model:
                return found
        if not (props.models_listed and props.models):
            return ModelProps(name=model)  # it may be there: nothing is known of it
        known = ", ".join([each.name for each in props.models][:_NAMED_AT_MOST]) or "none"
        raise ModelNotFound(f"the engine has no model {model!r}; there are {known}")

    async def _model_config(self, model: str, version: str | None) -> dict[str, Any]:
        """Return a model's configuration in the JSON form of Triton's `ModelConfig`: only what JSON can hold."""
        raise Unsupported(f"the {self.engine} adapter tells no configuration of models")

    async def _load_model(self, model: str, config: str | None, files: Mapping[str, bytes]) -> None:
        """Load a model, within a time of its own; declare `Capability.MODEL_CONTROL` when it works."""
        raise Unsupported(f"the {self.engine} adapter loads no models")

    async def _unload_model(self, model: str, *, dependents: bool) -> None:
        raise Unsupported(f"the {self.engine} adapter unloads no models")

    async def _open(self) -> None:  # noqa: B027 - optional
        """Get what the adapter needs. Succeed when the engine is down: an orchestrator opens adapters of dead ones."""

    async def _close(self) -> None:  # noqa: B027 - optional
        """Release everything. Runs once, after all streams ended, also when `_open` failed half-way."""

    async def _cancel(self, job_id: str) -> CancelReceipt:
        """Tell the engine to stop a task; the guard closes the task's generator right after.

        Implement it when closing the generator does not reach the engine, or to say what the receipt should. Return
        `sent`, `released` and `mode`; the rest is filled in for you.
        """
        return CancelReceipt(found=True, sent=False, mode="client_only")

    async def _infer(self, request: InferRequest) -> InferResponse:
        raise Unsupported(f"the {self.engine} adapter has no tensor inference")

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        raise Unsupported(f"the {self.engine} adapter has no tensor inference")
        yield  # makes this an async generator

    # -- state --------------------------------------------------------------------------------------------------------

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Here rather than in `__init__`, so that an author's `__init__` need not call ours.
        self = super().__new__(cls)
        self._lifecycle = "new"
        self._closing = None
        self._repairs = 0
        # Weak: a stream that its reader dropped is closed by the interpreter and must not be kept alive by us.
        self._streams = WeakValueDictionary()
        return self

    _lifecycle: str
    _repairs: int
    """How often the final methods had to mend what the author's methods returned or raised; the suite wants none."""
    _closing: anyio.Event | None
    """Set when the closing is done; `None` when nobody closes."""
    _streams: WeakValueDictionary[str, TokenStream]

    def _forget(self, stream: TokenStream) -> None:
        if self._streams.get(stream.job_id) is stream:
            del self._streams[stream.job_id]

    async def _answer(self, method: Callable[..., Any], kind: type[T], *args: Any, **kwargs: Any) -> T:
        try:
            return await answer_of(method, kind, *args, **kwargs)
        except (WrongAnswer, Broke):
            self._repairs += 1
            raise

    async def _json_config(self, model: str, version: str | None) -> dict[str, Any]:
        config = await answer_of(self._model_config, dict, model, version)
        try:
            msgspec.json.encode(config)
        except (TypeError, ValueError, RecursionError) as exc:
            name = type(self)._model_config.__qualname__
            raise WrongAnswer(f"{name} returned what JSON cannot hold") from exc
        return config

    def _require_open(self) -> None:
        if self._lifecycle != "open":
            raise AdapterClosed(f"this {self.engine} adapter is {self._lifecycle}, not open: use `async with adapter:`")


_FINAL = frozenset(name for name, member in vars(WorkerAdapter).items() if getattr(member, "__final__", False))


def _failed_stream(task: TaskRequest, error: AdapterError) -> TokenStream:
    async def source() -> AsyncIterator[TokenEvent]:
        yield Error.from_exception(error)

    return TokenStream(source(), job_id=task.job_id)


async def _raising(error: AdapterError) -> AsyncIterator[InferResponse]:
    raise error
    yield  # makes this an async generator


def _unreachable(detail: str) -> HealthReport:
    return HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False, detail=detail)
