"""The orchestrator itself: everything that a host is asked for, each by the part that knows how."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from random import Random
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from prometheus_client import CollectorRegistry

from adapter_api import (
    AdapterError,
    CancelReceipt,
    Error,
    HealthReport,
    InferRequest,
    InferResponse,
    ModelProps,
    PluginHost,
    TaskRequest,
    TensorStream,
    TokenEvent,
    TokenStream,
    load_plugins,
)
from orchestrator.config.settings import OrchestratorSettings, PoolSettings
from orchestrator.held import Held
from orchestrator.observability.metrics import OrchestratorMetrics
from orchestrator.observability.scrape import EngineMetrics
from orchestrator.observability.statistics import ModelStatistics
from orchestrator.pools.fit import TemplateReader
from orchestrator.pools.fleet import DrainReport, Fleet, ReloadReport
from orchestrator.pools.model_control import ModelControl
from orchestrator.pools.pool_choice import ServingPools
from orchestrator.pools.prompts import Prompts
from orchestrator.pools.status import PoolParsers, PoolStatus, TaskStatus, Totals
from orchestrator.rollout.report import RolloutReport
from orchestrator.rollout.shadow import Shadows
from orchestrator.sessions.affinity import Affinity
from orchestrator.work.dispatch import Dispatcher
from orchestrator.work.embeddings import EmbeddingAnswer, EmbeddingRequest, Embeddings
from orchestrator.work.intake import Intake
from orchestrator.work.jobs import Jobs
from orchestrator.work.ledger import Ledger
from orchestrator.work.tasks import Tasks
from orchestrator.work.tensors import Tensors

if TYPE_CHECKING:
    from orchestrator.observability.tracing import Tracing


class Orchestrator:
    """Keeps pools of replicas healthy and sends them tasks. Use it as a context manager, in one event loop of asyncio:

        async with Orchestrator(settings) as orchestrator:
            async for event in orchestrator.submit(TaskRequest(model="m", prompt="Hello")):
                ...

    Opening waits for the first probe of every replica (`health.start_wait_s` at most) and succeeds when engines are
    down. Closing ends every live task with one `Error` of code `closed` and closes all adapters.

    Args:
        settings: Pools and replicas.
        plugins: Where adapters come from; the installed plugins when absent.
        tracing: Makes a span of each task; none are made when absent.
        template_of: Makes a chat template of what a pool's `chat_template` and `chat_template_kwargs` say; may raise
            `ConfigurationError`. `adapter_kit.chat_template.read_chat_template` is one.
            Without it messages stay messages.
    """

    def __init__(
        self,
        settings: OrchestratorSettings,
        *,
        plugins: PluginHost | None = None,
        tracing: Tracing | None = None,
        template_of: TemplateReader | None = None,
    ) -> None:
        self.plugins = plugins if plugins is not None else load_plugins()
        self.metrics = OrchestratorMetrics()
        self._affinity = Affinity(settings.sessions, monotonic)
        self._jobs = Jobs(settings.retained_jobs)
        self._ledger = Ledger(self._jobs, self.metrics, self.plugins, tracing)
        engine_metrics = EngineMetrics(settings.scrape_interval_s)
        self.metrics.add_collectors([engine_metrics])
        self._fleet = Fleet(
            settings,
            self.plugins,
            self._affinity,
            self._ledger.probed,
            engine_metrics.watch,
            self._ledger.changes.tell,
            template_of,
        )
        self._serving = ServingPools(self._fleet, self._affinity)
        self._intake = Intake(self._fleet, self._serving, self._jobs, self._ledger)
        self._shadows = Shadows(lambda task, pool_id, held: self.accept(task, pool_id=pool_id, held=held))
        dispatcher = Dispatcher(
            on_started=self._ledger.started,
            on_moved=self._ledger.moved,
            other_pool=self._serving.other_for,
            random=Random(),
        )
        self._tasks = Tasks(self._fleet, self._intake, self._jobs, self._ledger, dispatcher, self._shadows)
        self._model_control = ModelControl(self._fleet, self._serving)
        self._tensors = Tensors(self._intake, self._ledger, self._serving.other_for)
        self._embeddings = Embeddings(self._intake, self._ledger, self._serving)
        self._exit = AsyncExitStack()
        self.changes = self._ledger.changes
        """Tells what changes for tasks."""
        self.certificate_expires_at: float | None = None
        """When the certificate that the host itself is reached by ends; set by who serves it."""

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open every adapter and probe it once.

        Raises:
            ConfigurationError: A pool names an adapter there is not, options that it does not take, or a template that
                cannot be read.
        """
        for collectors in self.plugins.call("worker_adapter_collectors"):
            self.metrics.add_collectors(collectors)
        watchers = await self._exit.enter_async_context(anyio.create_task_group())
        try:
            await self._fleet.open(watchers)
        except BaseException:
            self._fleet.close()
            await self._exit.aclose()
            raise
        self.changes.look_at_plugins(self.plugins.reports)
        self._shadows.group = watchers
        self._intake.open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._intake.open = False
        with anyio.CancelScope(shield=True):
            await self.end_tasks()
            self._fleet.close()
        # Without the body's exception: a task group would wrap it.
        await self._exit.aclose()

    async def end_tasks(self) -> None:
        """End every live task with one `Error` of code `closed`. Closing does so by itself."""
        await self._tasks.end_all()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def submit(self, task: TaskRequest) -> TokenStream:
        """Return the task's stream; never raises for a `TaskRequest`: a refusal arrives as the stream's `Error`.

        The task takes its place in the queue now, its time counts from now, and it runs as the stream is read. Drop the
        stream, or close it, to cancel the task. Of large messages see `accept`.
        """
        try:
            return self.accept(task)
        except AdapterError as exc:
            return _refused(task, exc)

    def accept(
        self, task: TaskRequest, *, owner: str | None = None, pool_id: str | None = None, held: Held | None = None
    ) -> TokenStream:
        """Return the task's stream like `submit`, or raise why the task is not even queued.

        Messages that take more than a moment to become a prompt become one as the stream is read, beside the event loop
        and in the slot that the task got: what the pool's template says against them is then the stream's `Error`.
        `admit` makes the prompt first.

        Args:
            task: What to run.
            owner: Who submits it; kept with the job. Sessions of different owners never meet.
            pool_id: Run it in this pool rather than where the weights send it.
            held: Counts the memory that it takes, also that of its copies for shadows.

        Raises:
            JobConflict: Its `job_id` was accepted before.
            ModelNotFound: No replica has the model.
            InvalidRequest: It asks for more than the model takes, or the pool's template refuses its messages.
            Unsupported: It has an image, and its model takes text only.
            Overloaded: The queue is full.
            NotReady: The pool is draining, or has no weight.
            AdapterClosed: The orchestrator is not open.
        """
        return self._tasks.accept(task, owner=owner, pool_id=pool_id, held=held)

    async def admit(
        self,
        task: TaskRequest,
        *,
        owner: str | None = None,
        held: Held | None = None,
        prompts: Prompts | None = None,
        comes_again: bool = False,
    ) -> TokenStream:
        """Return the task's stream like `accept`, once its messages are a prompt, where its model takes text.

        Large messages are rendered in a thread beside the event loop, before the task takes a place, and while its time
        does not count yet.

        Args:
            task: The task.
            owner: Who submits it.
            held: Counts the memory that it takes.
            prompts: Of a task with the same messages and tools: what was rendered for that one is not rendered again.
            comes_again: Whoever submits it tries again until there is room: `Overloaded` is then no refusal, which
                metrics and log would tell of.

        Raises:
            AdapterError: As `accept` does.
            DeadlineExceeded: Too many large messages are before these ones: they were no prompt within the pool's
                `queue.timeout_s`, or the task's own time.
        """
        return await self._tasks.admit(task, owner=owner, held=held, prompts=prompts, comes_again=comes_again)

    async def cancel(self, job_id: str) -> CancelReceipt:
        """Stop a task, queued or running, and say what that did; an unknown or ended one is `found=False`.

        Once the receipt says `acknowledged`, the task's stream has ended and no token follows. An inference on tensors
        ends with its caller only: its receipt acknowledges nothing.
        """
        return await self._tasks.cancel(job_id)

    def task(self, job_id: str) -> TaskStatus | None:
        """Return how a task is or how it ended; `None` when nothing is known of it (any more)."""
        return self._jobs.status(job_id)

    def place_of(self, job_id: str) -> tuple[int | None, float | None] | None:
        """Return how many tasks were ahead of a task on its arrival, and in how many milliseconds it was expected to
        start then, as `task` does; `None` when nothing is known of it.
        """
        found = self._jobs.live(job_id) or self._jobs.status(job_id)
        return None if found is None else (found.queue_position, found.predicted_start_ms)

    @property
    def live_tasks(self) -> tuple[TaskStatus, ...]:
        """The tasks that wait or run, in the order of their arrival."""
        return tuple(status for ticket in self._jobs if (status := self._jobs.status(ticket.work.job_id)) is not None)

    @property
    def load(self) -> int:
        """How many pieces of work wait or run, inferences on tensors included."""
        return len(self._jobs)

    def recent_errors(self, limit: int = 20) -> list[TaskStatus]:
        """Return the last tasks that ended in an error, newest first."""
        return self._jobs.recent_errors(limit)

    def forget_session(self, session_id: str, *, owner: str | None = None) -> None:
        """Forget which replicas served an owner's session."""
        self._affinity.forget(owner, session_id)

    # -- tensors ------------------------------------------------------------------------------------------------------

    async def infer(
        self, request: InferRequest, *, owner: str | None = None, session_id: str | None = None
    ) -> InferResponse:
        """Run one inference on a ready replica and return its one response.

        One with a `session_id` goes where the last one of that session went, if there is a free slot.

        It is tried elsewhere only when it provably did not run; a sequence stays at the replica that has it.

        Raises:
            AdapterError: As `accept` refuses a task, or as the adapter failed.
        """
        return await self._tensors.infer(request, owner, session_id)

    def infer_stream(
        self, request: InferRequest, *, owner: str | None = None, session_id: str | None = None
    ) -> TensorStream:
        """Return the responses of one inference as they arrive; iterating raises like `infer`, closing cancels."""
        return TensorStream(self._tensors.infer_stream(request, owner, session_id))

    async def embed(
        self,
        request: EmbeddingRequest,
        *,
        owner: str | None = None,
        count: Callable[[int], None] = lambda inferences: None,
    ) -> EmbeddingAnswer:
        """Return the embeddings of texts, by as few inferences as the model's tensors allow.

        Which tensors those are its pool's settings say (`embeddings`), or else what the model declares. Of several
        inferences a few run at a time; the first that fails ends the others. `count` is told how many there are to be
        before the first of them; what it raises is raised.

        Raises:
            Unsupported: The model has no such tensors.
            InvalidRequest: Its embeddings have another number of dimensions than is asked for.
            AdapterError: As `infer` does.
        """
        return await self._embeddings.embed(request, owner, count)

    # -- pools --------------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> OrchestratorSettings:
        """The settings in force."""
        return self._fleet.settings

    @property
    def pools(self) -> tuple[PoolStatus, ...]:
        """Every pool as it is now."""
        return tuple(pool.status() for pool in self._fleet.pools.values())

    @property
    def ready(self) -> bool:
        """Whether any pool takes work."""
        return self._intake.open and self._serving.ready

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that replicas were last known to have."""
        return self._serving.models()

    def may_have(self, model: str) -> bool:
        """Whether work for the model is taken: a replica has it, or cannot tell which it has."""
        return self._serving.may_have(model)

    def model_props(self, model: str, version: str | None = None) -> tuple[PoolSettings, ModelProps] | None:
        """Return what a replica told of a model, with the settings of its pool; `None` when none told anything.

        Where pools differ in a model's tensors, these are those of one that gets work for it now.
        """
        return self._serving.model_props(model, version)

    def offer(self, model: str) -> ModelProps | None:
        """Return what can be asked of a model here, its pools' templates and parsers included; `None` as above."""
        return self._serving.offer(model)

    def parsers(self, model: str) -> tuple[PoolParsers, ...]:
        """Return how each pool of a model that takes text tells calls and thoughts from it."""
        return self._serving.parsers(model)

    def embeds(self, model: str) -> bool | None:
        """Return whether a model can be asked to `embed`; `None` where nobody knows."""
        return self._embeddings.can(model)

    async def ask_for_model(self, model: str) -> ModelProps | None:
        """Return what an engine that does not list its models tells of one, asked for by its name.

        `None` when no such engine could be asked; raises `ModelNotFound` when those asked do not have it.
        """
        return await self._serving.ask_for(model)

    async def model_config(self, model: str, version: str | None = None) -> dict[str, Any]:
        """Return a model's configuration, in Triton's JSON form, as a replica's engine tells it.

        Raises:
            ModelNotFound: The engines do not have it.
            Unsupported: They have no such configuration.
            AdapterError: They cannot tell now.
        """
        return await self._model_control.model_config(model, version)

    async def load_model(
        self, model: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Have every replica whose pool may serve a model load it, side by side; engines that do not have it, or load
        no models, are passed over as long as one does.

        Args:
            model: Its name here.
            config: A whole configuration, as JSON text, to use instead of the repository's.
            files: The model's files by path, instead of the repository's; they need `config`.

        Raises:
            ModelNotFound: No engine has it in its repository.
            Unsupported: No engine loads models when it is told to.
            AdapterError: A replica did not load it; the message says how many did.
        """
        await self._model_control.load_model(model, config, files or {})

    async def unload_model(self, model: str, *, dependents: bool = False) -> None:
        """Have every replica unload a model, and its `dependents`; raises like `load_model`."""
        await self._model_control.unload_model(model, dependents=dependents)

    def statistics(self, model: str, version: str | None = None) -> list[ModelStatistics]:
        """Return what the host has had done by a model since it was started, one entry for each of its versions."""
        props = self.model_props(model)
        return self._ledger.statistics.of(model, props[1].versions if props else (), version)

    def model_is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether a replica takes work for the model now."""
        return self._serving.model_is_ready(model, version)

    async def health(self, pool_id: str, replica_id: str, *, canary: bool = False) -> HealthReport:
        """Return what a probe finds now; raises `KeyError` for a replica there is not."""
        replica = self._fleet.require(pool_id, replica_id).replicas[replica_id]
        if replica.adapter is None:
            return replica.report or HealthReport(state=replica.health.state, live=False, ready=False)
        return replica.names.health(await replica.adapter.health(canary=canary))

    def require_pool(self, pool_id: str) -> None:
        """Raise `KeyError`, naming those there are, when there is no such pool."""
        self._fleet.require(pool_id)

    async def drain(self, pool_id: str, replica_id: str | None = None, *, timeout_s: float = 0.0) -> DrainReport:
        """Send nothing new there, and wait up to `timeout_s` for what runs; `resume` takes it back.

        Raises:
            KeyError: There is no such pool or replica.
        """
        self._fleet.require(pool_id, replica_id)
        where = f"pool {pool_id}" if replica_id is None else f"replica {pool_id}/{replica_id}"
        self.changes.tell(
            "draining", f"{where} gets nothing new: it is drained", pool_id=pool_id, replica_id=replica_id or ""
        )
        return await self._fleet.drain(pool_id, replica_id, timeout_s=timeout_s)

    def resume(self, pool_id: str, replica_id: str | None = None) -> None:
        """Take a drain back; raises `KeyError` when there is no such pool or replica."""
        self._fleet.resume(pool_id, replica_id)
        where = f"pool {pool_id}" if replica_id is None else f"replica {pool_id}/{replica_id}"
        self.changes.tell("resumed", f"{where} gets work again", pool_id=pool_id, replica_id=replica_id or "")

    async def reload(self, settings: OrchestratorSettings) -> ReloadReport:
        """Go over to new settings, all of them or none; tasks go on. See `Fleet.reload`."""
        return await self._reload(self._fleet.reload(settings))

    async def revert(self, pool_id: str) -> ReloadReport:
        """Go back to the settings that a pool had before its last reload; raises `ConfigurationError` when there was
        none, and else as `reload` does."""
        before = self._fleet.settings_before(pool_id)  # where there are none, no settings were refused
        return await self._reload(self._fleet.reload(before))

    def tell_rate_limited(self, error: Error, owner: str | None) -> None:
        """Log and count a task that is refused before it comes here, since its sender had their share."""
        self._ledger.rate_limited(error, owner)

    def tell_reload_refused(self, exc: AdapterError) -> None:
        """Log and count a reload that is not to be."""
        text = f"reload refused, everything stays as it was: {exc.message}"
        self.changes.tell("reload_refused", text, level=logging.ERROR)

    async def _reload(self, reloading: Awaitable[ReloadReport]) -> ReloadReport:
        try:
            report = await reloading
        except AdapterError as exc:
            self.tell_reload_refused(exc)
            raise
        added, removed = len(report.added), len(report.removed)
        self.changes.tell("reloaded", f"reloaded: {added} replicas added, {removed} removed, {len(report.kept)} kept")
        return report

    # -- figures ------------------------------------------------------------------------------------------------------

    def rollout_report(self) -> RolloutReport:
        """Return the last tasks of every pool side by side, and how shadows agree with what they shadow."""
        pools = [pool.settings for pool in self._fleet.pools.values()]
        figures = self._ledger.figures
        return RolloutReport(
            pools=tuple(figures.of(pool.id, pool.weight, pool.shadow_of) for pool in pools),
            agreements=tuple(
                self._shadows.comparisons(pool.shadow_of, pool.id).agreement(pool.shadow_of, pool.id)
                for pool in pools
                if pool.shadow_of is not None
            ),
        )

    def collect_metrics(self) -> CollectorRegistry:
        """Return the registry of all metrics, brought up to date."""
        self.metrics.count_live(self._jobs)
        self.metrics.refresh(self._fleet.pools.values(), self.plugins.reports, self.certificate_expires_at)
        return self.metrics.registry

    def totals(self) -> Totals:
        """Return what all pools have done since the start, live tasks included: look twice for what is done now."""
        self.metrics.count_live(self._jobs)
        return Totals(tokens_out=self.metrics.tokens_out, tasks_refused=self.metrics.tasks_refused)


def _refused(task: TaskRequest, error: AdapterError) -> TokenStream:
    async def source() -> AsyncIterator[TokenEvent]:
        yield Error.from_exception(error)

    return TokenStream(source(), job_id=task.job_id)
