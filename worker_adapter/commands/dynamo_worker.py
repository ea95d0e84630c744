"""`worker-adapter dynamo-worker`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from adapter_api import AdapterPlugin, ConfigurationError, WorkerAdapter
from worker_adapter.demo.engine import EngineFactory, choose_plugin
from worker_adapter.engine_options import AdapterOption, JsonOption, SettingsOption, UrlOption, make_adapter
from worker_adapter.exit_codes import ExitCode
from worker_adapter.installed import installed_plugins
from worker_adapter.interrupt import Interrupt
from worker_adapter.reporting import write_json
from worker_adapter.terminal import note

if TYPE_CHECKING:
    from dynamo_worker.cluster import Cluster
    from dynamo_worker.following import Follower

_CLUSTER, _EMBEDDED = "Cluster", "With --embedded"
_KSERVE_PORT = 8000
_REJOIN_S = 3.0
"""Between two tries to join a cluster that was there before."""
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, rich_help_panel=_CLUSTER, show_default="not started")]


def dynamo_worker(
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", "--model-name", help="A model to serve, repeatedly; all that are ready if absent."
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(rich_help_panel=_CLUSTER, show_default="DYN_NAMESPACE, or dynamo")
    ] = None,
    store_kv: Annotated[
        str | None,
        typer.Option(
            "--discovery-backend",
            "--store-kv",
            rich_help_panel=_CLUSTER,
            metavar="etcd|file|mem|kubernetes",
            show_default="DYN_DISCOVERY_BACKEND, DYN_STORE_KV, or etcd",
            help="How workers and frontends find each other; file: in DYN_FILE_KV, etcd: at ETCD_ENDPOINTS.",
        ),
    ] = None,
    request_plane: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_CLUSTER,
            metavar="tcp|nats",
            show_default="DYN_REQUEST_PLANE, or tcp",
            help="How requests travel; nats: through NATS_SERVER.",
        ),
    ] = None,
    face: Annotated[
        str,
        typer.Option(
            metavar="both|tensor|text", help="What models are registered for: tensors, chats and completions."
        ),
    ] = "both",
    kserve_port: PortOption = None,
    openai_port: PortOption = None,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the engine.")] = 1.0,
    drain: Annotated[float, typer.Option(min=0.0, help="Seconds that what runs gets at the end.")] = 30.0,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start an engine of our own, and Dynamo's KServe frontend before it.")
    ] = False,
    model_repository: Annotated[
        Path | None, typer.Option(rich_help_panel=_EMBEDDED, show_default="the demo models")
    ] = None,
    backend_directory: Annotated[
        Path | None, typer.Option(rich_help_panel=_EMBEDDED, help="Folder with more backends.", show_default=False)
    ] = None,
    log_verbose: Annotated[
        int, typer.Option(min=0, rich_help_panel=_EMBEDDED, help="How much the engine writes to its log.")
    ] = 0,
    as_json: JsonOption = False,
) -> int:
    """Serve an engine's models as a worker of an NVIDIA Dynamo cluster, until Ctrl-C or SIGTERM, then end what runs.

    Models that the engine loads and unloads meanwhile come and go. --kserve-port and --openai-port start Dynamo's
    frontends in the same process. Its KServe frontend listens on all addresses, whatever it is told.
    """
    from dynamo_worker.settings import WorkerSettings

    settings = WorkerSettings.from_env(
        os.environ, namespace=namespace, discovery=store_kv, request_plane=request_plane,
        models=tuple(model or ()), face=face, interval_s=interval, drain_s=drain,
    )  # fmt: skip
    if not embedded and (model_repository or backend_directory or log_verbose):
        raise ConfigurationError("--model-repository, --backend-directory and --log-verbose are for --embedded")
    if embedded and url is not None:
        raise ConfigurationError("--embedded starts an engine of its own: leave --url out")
    if embedded and kserve_port is None:
        kserve_port = _port_from_environment()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    given = {"model_repository": model_repository, "backend_directory": backend_directory}
    engine = _Engine(choose_plugin(installed_plugins(), adapter), given, log_verbose) if embedded else None

    async def run() -> int:
        from dynamo_worker.cluster import Cluster
        from dynamo_worker.worker import DynamoWorker

        async with AsyncExitStack() as stack:
            where = url if engine is None else await stack.enter_async_context(engine.running())
            opened: WorkerAdapter = await stack.enter_async_context(make_adapter(where, adapter, option))
            told, cluster = _Announcement(as_json=as_json), Cluster(settings)
            interrupt = stack.enter_context(Interrupt())
            while True:
                async with aclosing(cluster):
                    frontends = _frontends(cluster, kserve_port, openai_port)
                    worker = DynamoWorker(opened, cluster, settings)
                    left = await worker.run(_either(interrupt, frontends), on_look=told)
                    _end(frontends)
                if interrupt.signal_name is not None:
                    return ExitCode.FAILED if left else ExitCode.DONE
                note("the cluster has lost this worker, as when its discovery is away: joining it again", "yellow")
                told.forget()
                joined = await _join(interrupt, lambda: Cluster(settings))
                if joined is None:
                    return ExitCode.DONE
                cluster = joined

    return _runner()(run())


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return what runs the worker: on the event loop that Dynamo's runtime brings, a token costs it two fifths less."""
    try:
        from uvloop import run
    except ImportError:
        return asyncio.run
    found: Callable[[Coroutine[Any, Any, int]], int] = run
    return found


async def _join(interrupt: Interrupt, make: Callable[[], Cluster]) -> Cluster | None:
    """Join the cluster once it is there again, or return `None` at a signal."""
    while interrupt.signal_name is None:
        try:
            return make()
        except ConfigurationError as exc:
            note(f"{exc.message}; tried again in {_REJOIN_S:g} s", "yellow")
        with suppress(TimeoutError):
            await asyncio.wait_for(interrupt.wait(), _REJOIN_S)
    return None


class _Engine:
    """An engine of our own, for as long as the worker runs."""

    def __init__(self, plugin: AdapterPlugin, given: dict[str, Path | None], log_verbose: int) -> None:
        self._plugin = plugin
        self._given: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if log_verbose:
            self._given["extra_args"] = (f"--log-verbose={log_verbose}",)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Run it and give its URL."""
        factory: EngineFactory = self._plugin.load("embedded")
        async with factory(on_progress=note, **self._given) as engine:
            yield engine.grpc_url


class _Announcement:
    """Says once which models are served, when there are some, and whenever they change."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told: frozenset[tuple[str, str]] = frozenset()

    def forget(self) -> None:
        """Say it again: what was served is served no longer."""
        self._told = frozenset()

    def __call__(self, follower: Follower) -> None:
        if follower.published == self._told:
            return
        self._told = follower.published
        if self._as_json:
            write_json(msgspec.json.encode({"models": [list(each) for each in sorted(self._told)]}))
        else:
            names = ", ".join(f"{model} ({kind})" for model, kind in sorted(self._told))
            note(f"serving {names or 'nothing'}", "green")


def _frontends(cluster: Cluster, kserve_port: int | None, openai_port: int | None) -> list[asyncio.Task[None]]:
    found = []
    if kserve_port is not None:
        metrics = int(os.environ.get("DYN_GRPC_METRICS_PORT") or 0) or None
        found.append(cluster.run_frontend("grpc", host="0.0.0.0", port=kserve_port, metrics_port=metrics))
        note(f"Dynamo's KServe frontend listens on port {kserve_port} of ALL addresses of this machine", "yellow")
    if openai_port is not None:
        host = os.environ.get("DYN_HTTP_HOST") or "127.0.0.1"
        found.append(cluster.run_frontend("http", host=host, port=openai_port))
        note(f"Dynamo's OpenAI frontend listens on http://{host}:{openai_port}")
    return [asyncio.ensure_future(each) for each in found]


def _end(frontends: list[asyncio.Task[None]]) -> None:
    for frontend in frontends:
        if frontend.done() and not frontend.cancelled() and frontend.exception() is not None:
            raise ConfigurationError(f"a frontend ended: {frontend.exception()}")
        frontend.cancel()


async def _either(interrupt: Interrupt, frontends: list[asyncio.Task[None]]) -> None:
    """Return at a signal, or when a frontend ends by itself."""
    waiting = asyncio.ensure_future(interrupt.wait())
    try:
        await asyncio.wait({waiting, *frontends}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting


def _port_from_environment() -> int:
    text = os.environ.get("DYN_HTTP_PORT") or str(_KSERVE_PORT)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"DYN_HTTP_PORT is {text!r}; it must be a port")
    return int(text)
