"""The sequence: discover, start an engine, watch tasks run, cancel one, ask how it went, stop."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import closing
from pathlib import Path
from time import perf_counter

import anyio
import anyio.to_thread

from adapter_api import AdapterPlugin, EngineProps, HealthReport, PluginHost, WorkerAdapter
from orchestrator import Orchestrator, OrchestratorSettings
from worker_adapter.demo.board import Board, Lane
from worker_adapter.demo.detection import detector_of, look_at_drawing
from worker_adapter.demo.engine import EmbeddedEngine, choose_engine, scrape
from worker_adapter.demo.playbill import acts_for
from worker_adapter.demo.view import View
from worker_adapter.exit_codes import ExitCode
from worker_adapter.interrupt import Interrupt
from worker_adapter.submission import describe_receipt
from worker_adapter.terminal import note

_POOL, _REPLICA = "demo", "r0"
_TASK_S = 30.0
_NEXT = (
    ("a host with a status page, and an engine behind it", "serve --embedded"),
    ("what an engine of yours can do", "doctor grpc://HOST:8001"),
    ("what is in a picture", "detect photo.jpg --url grpc://HOST:8001 --model yolo"),
    ("whether an adapter keeps the contract", "conformance --adapter mock"),
    ("everything else", "--help"),
)
_COUNTED = ("_tasks_total", "_tokens_in_total", "_tokens_out_total", "_cancels_total")


class Show:
    """Runs once; the first signal ends it early, with everything shut down as at the end."""

    def __init__(self, host: PluginHost, plugin: AdapterPlugin, view: View) -> None:
        self._host = host
        self._plugin = plugin
        self._view = view
        self._code = ExitCode.CANCELLED

    def run(self) -> ExitCode:
        """Return when all is over: `DONE` when every task went as planned."""
        with Interrupt(before_exit=_show_cursor) as interrupt, closing(self._view):
            anyio.run(self._run, interrupt)
        if interrupt.signal_name is not None:
            note("stopped; nothing was left behind")
        return self._code

    async def _run(self, interrupt: Interrupt) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_leave_on_signal, interrupt, group.cancel_scope)
            await self._perform()
            group.cancel_scope.cancel()

    async def _perform(self) -> None:
        began = perf_counter()
        factory, obstacle = await anyio.to_thread.run_sync(choose_engine, self._plugin)
        if obstacle is not None:
            self._show_fake(obstacle)
        self._show_plugins()
        kind = "" if obstacle is None else "a fake of "
        self._view.step(f"Starting {kind}{self._plugin.name}: {self._plugin.summary}")
        async with factory(on_progress=self._view.progress) as engine:
            self._show_engine(engine)
            code = await self._orchestrate(engine)
            self._view.step("Shutting down")
            pid, stopping = engine.pid, perf_counter()
        what = "server" if obstacle is None else "fake in process"
        text = f"{what} {pid} stopped and cleaned up in {perf_counter() - stopping:.1f} s"
        self._view.tell(f"{text}; {perf_counter() - began:.1f} s in all")
        self._view.document("stopped", {"pid": pid, "seconds": perf_counter() - began})
        self._show_what_next()
        self._code = code

    async def _orchestrate(self, engine: EmbeddedEngine) -> ExitCode:
        options = {**getattr(engine, "options", {}), "url": engine.grpc_url}
        replica = {"id": _REPLICA, "options": options}
        pool = {"id": _POOL, "adapter": self._plugin.name, "replicas": [replica], "task_timeout_s": _TASK_S}
        settings = OrchestratorSettings.parse({"pools": [pool], "read_environment": False})
        async with Orchestrator(settings, plugins=self._host) as orchestrator, self._plugin.create(options) as adapter:
            props = await adapter.props()
            board = Board([Lane(act) for act in acts_for(props, getattr(engine, "language_models", ()))])
            models = len({lane.act.task.model for lane in board.lanes})
            self._view.step(f"{len(board.lanes)} tasks at once on {models} language models, through the orchestrator")
            await self._run_tasks(orchestrator, board)
            self._show_results(board)
            await self._detect(adapter, props)
            self._show_health(await orchestrator.health(_POOL, _REPLICA))
            self._show_props(props)
            await self._show_metrics(orchestrator, engine, board)
        return ExitCode.DONE if all(lane.went_as_planned for lane in board.lanes) else ExitCode.FAILED

    async def _run_tasks(self, orchestrator: Orchestrator, board: Board) -> None:
        with self._view.watching(board):
            async with anyio.create_task_group() as group:
                for lane in board.lanes:
                    group.start_soon(self._run_task, orchestrator, lane, group)

    async def _run_task(self, orchestrator: Orchestrator, lane: Lane, group: anyio.abc.TaskGroup) -> None:
        to_cancel = lane.act.cancel_after
        async with orchestrator.submit(lane.act.task) as stream:
            async for events in stream.batches():
                lane.take(events)
                self._view.events(lane, events)
                if to_cancel is not None and lane.tokens >= to_cancel and lane.terminal is None:
                    group.start_soon(self._cancel, orchestrator, lane)
                    to_cancel = None

    async def _cancel(self, orchestrator: Orchestrator, lane: Lane) -> None:
        lane.receipt = await orchestrator.cancel(lane.act.task.job_id)
        self._view.cancelled(lane)

    async def _detect(self, adapter: WorkerAdapter, props: EngineProps) -> None:
        model = detector_of(props)
        if model is None:
            return
        result = await look_at_drawing(adapter, model)
        self._view.step(f"A picture, drawn here, looked at by the detector {model}")
        rows = [
            (each.class_name, f"{each.confidence:.2f}", ", ".join(f"{value:g}" for value in each.box))
            for each in result.detections
        ]
        self._view.table(("found", "confidence", "box in pixels"), rows)
        self._view.document("detection", result.document())

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _show_fake(self, obstacle: str) -> None:
        self._view.tell(
            f"A FAKE {self._plugin.name} answers below, on the real wire: no real one runs on this machine. For a real "
            f"one: {obstacle}"
        )
        self._view.document("fake", {"engine": self._plugin.name, "reason": obstacle})

    def _show_plugins(self) -> None:
        self._view.step("Adapters found by entry point")
        rows = [
            (report.name, str(report.status), report.distribution or "", report.reason) for report in self._host.reports
        ]
        self._view.table(("plugin", "status", "from", "reason"), rows)
        self._view.document("plugins", {"plugins": self._host.reports})

    def _show_engine(self, engine: EmbeddedEngine) -> None:
        facts = {"url": engine.grpc_url, "version": engine.version, "models": engine.models, "pid": engine.pid}
        self._view.tell(f"{self._plugin.name} {engine.version} at {engine.grpc_url}, pid {engine.pid}")
        self._view.document("engine", facts)

    def _show_results(self, board: Board) -> None:
        self._view.step("How it went")
        self._view.tell(f"{board.tokens} tokens, {board.tokens_per_s:.0f} tok/s together")
        if board.twins_agree is not None:
            agree = "the same text, byte for byte" if board.twins_agree else "DIFFERENT TEXTS"
            self._view.tell(f"same prompt, same seed: {agree}")
        for lane in board.lanes:
            if lane.receipt is not None:
                self._view.tell(f"{lane.act.name}: {describe_receipt(lane.receipt)}")
        self._view.document("results", {"tokens": board.tokens, "tokens_per_s": board.tokens_per_s,
                                        "twins_agree": board.twins_agree})  # fmt: skip

    def _show_what_next(self) -> None:
        self._view.step("What to try next")
        typed = program()
        for what, command in _NEXT:
            self._view.tell(f"{what}: {typed} {command}")

    def _show_health(self, report: HealthReport) -> None:
        ready = {model.name for model in report.models if model.ready}  # some have several versions
        known = {model.name for model in report.models}
        self._view.step("Health, properties, metrics")
        self._view.tell(
            f"health: {report.state}, {len(ready)} of {len(known)} models ready, "
            f"answered in {report.latency_s * 1e3:.1f} ms"
        )
        self._view.document("health", {"health": report})

    def _show_props(self, props: EngineProps) -> None:
        self._view.tell(f"props: {props.engine_version or props.engine}, can {', '.join(sorted(props.capabilities))}")
        self._view.document("props", {"props": props})

    async def _show_metrics(self, orchestrator: Orchestrator, engine: EmbeddedEngine, board: Board) -> None:
        counts = [("orchestrator", *count) for count in _counters(orchestrator)]
        models = {lane.act.task.model for lane in board.lanes}
        counts += [(self._plugin.name, *count) for count in await scrape(engine.metrics_url, models)]
        names = ("counted_by", "metric", "model", "value")
        rows = [(source, name, model, f"{value:g}") for source, name, model, value in counts]
        self._view.table([name.replace("_", " ") for name in names], rows)
        self._view.document("metrics", {"metrics": [dict(zip(names, count, strict=True)) for count in counts]})


def _counters(orchestrator: Orchestrator) -> list[tuple[str, str, float]]:
    """Name, model and value of what the orchestrator counted, without its histograms."""
    return [
        (sample.name + (f" ({sample.labels['outcome']})" if "outcome" in sample.labels else ""),
         sample.labels.get("model_id", ""), sample.value)
        for family in orchestrator.metrics.registry.collect()
        if family.type == "counter"
        for sample in family.samples
        if sample.name.endswith(_COUNTED) and sample.value > 0
    ]  # fmt: skip


async def _leave_on_signal(interrupt: Interrupt, scope: anyio.CancelScope) -> None:
    await interrupt.wait()
    note(f"{interrupt.signal_name}: stopping the tasks and the engine; once more leaves at once", "yellow")
    scope.cancel()


def program() -> str:
    """Return what to type for this program: its name, or the way to it from here, as `make demo` went."""
    name = "worker-adapter"
    if shutil.which(name) is not None:
        return name
    started = Path(sys.argv[0])
    if started.name == name and started.exists():
        near = os.path.relpath(started)
        return shlex.quote(str(started.absolute()) if near.startswith(os.pardir) else near)
    return f"python -m {name.replace('-', '_')}"


def _show_cursor() -> None:
    # The live view hides it, and a process that ends at once restores nothing.
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")
        sys.stdout.flush()
