"""Serving: an orchestrator behind its HTTP faces, until a signal says to stop.

`worker-adapter serve` calls `run`; a program that has an event loop of its own enters `serving`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import msgspec

from adapter_api import AdapterError, Capability, ConfigurationError, PluginHost
from adapter_kit.addresses import without_addresses
from adapter_kit.chat_template import read_chat_template
from adapter_kit.installing import install_extra
from orchestrator.config import HostSettings, Loaded, ServerSettings, TracingSettings, at_next_start, require_keys
from orchestrator.first_call import first_call
from orchestrator.host import Orchestrator
from orchestrator.http.app import ADMIN, FACES, create_app
from orchestrator.http.certificate import ServedCertificate
from orchestrator.http.guard import Guard
from orchestrator.http.server import Server, bind, make_server, url_of
from orchestrator.http.service import Service
from orchestrator.pools.fleet import ReloadReport
from orchestrator.sessions.conversation import Conversations
from orchestrator.sessions.history import Histories
from orchestrator.work.journal import Journal, journal_in
from orchestrator.work.journal_metrics import JournalMetrics

if TYPE_CHECKING:
    from orchestrator.observability.tracing import Tracing

_log = logging.getLogger("orchestrator.serve")

LAST_WORDS_S = 5.0
"""How long clients may take to read how their tasks ended, when the host closes."""
_NEW_OBJECTS = 20_000
"""Containers that come, beyond those that go, before cycles are looked for among them."""
SWEEP_S = 5.0
"""Between two looks for what is too old to be kept."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Told when the host serves."""

    url: str
    admin_url: str
    models: tuple[str, ...]
    text_models: tuple[str, ...]
    """Those that take tasks."""
    example: str
    """A command for a shell: a call that one of the models answers."""
    pid: int


class Serving:
    """A host that serves. `reload` reads the settings again and goes over to them."""

    def __init__(self, service: Service, ready: Ready) -> None:
        self.service = service
        self.orchestrator = service.orchestrator
        self.ready = ready


@asynccontextmanager
async def serving(
    settings: HostSettings,
    *,
    plugins: PluginHost | None = None,
    load: Callable[[], Loaded] | None = None,
    on_reloaded: Callable[[Loaded], None] = lambda loaded: None,
    sockets: Sequence[socket.socket] | None = None,
) -> AsyncIterator[Serving]:
    """Serve while the block runs. On leaving, new tasks are refused and running ones have `shutdown_grace_s`.

    Args:
        settings: What to serve, and where.
        plugins: Where adapters come from; the installed plugins when absent.
        load: Reads the settings again, for a reload; without it there is none.
        on_reloaded: Called with settings that were read again, once they are in force.
        sockets: What `listening` yields, where the ports were taken before.

    Raises:
        ConfigurationError: Something in the settings cannot be had: a port, a certificate, an adapter, a template.
    """
    async with _tracing(settings.tracing) as tracing:
        orchestrator = Orchestrator(settings, plugins=plugins, tracing=tracing, template_of=read_chat_template)
        async with (
            journal_in(settings.retention, settings.server.limits.keep_events) as journal,
            _serving(orchestrator, settings, load, on_reloaded, journal, sockets) as running,
        ):
            if journal is not None:
                orchestrator.metrics.add_collectors([JournalMetrics(journal)])
            yield running


@asynccontextmanager
async def _tracing(settings: TracingSettings) -> AsyncIterator[Tracing | None]:
    if not settings.enabled:
        yield None
        return
    try:
        from orchestrator.observability.tracing import sending
    except ImportError as exc:
        raise ConfigurationError(
            f"tracing.enabled needs {exc.name}, which is not installed: run `{install_extra('otel')}`, "
            "or set it to false"
        ) from exc
    async with sending(settings) as tracing:
        yield tracing


@asynccontextmanager
async def _serving(
    orchestrator: Orchestrator,
    settings: HostSettings,
    load: Callable[[], Loaded] | None,
    on_reloaded: Callable[[Loaded], None],
    journal: Journal | None,
    sockets: Sequence[socket.socket] | None,
) -> AsyncIterator[Serving]:
    reloading = anyio.Lock()
    conversations = Conversations(Histories(settings.history, monotonic))

    async def reload() -> ReloadReport:
        assert load is not None
        async with reloading:  # what is read later is in force later
            try:
                try:
                    loaded = await anyio.to_thread.run_sync(load)
                    require_keys(settings.server, loaded.settings.server)
                except ConfigurationError as exc:
                    orchestrator.tell_reload_refused(exc)
                    raise
                report = await orchestrator.reload(loaded.settings)
            except AdapterError as exc:
                # Who may reload may know what is wrong, but not where engines and files of this machine are.
                exc.message = without_addresses(exc.message)
                exc.args = (exc.message,)
                raise
            keys = loaded.settings.server.api_keys
            service.guard = Guard(settings.server.model_copy(update={"api_keys": keys}))
            on_reloaded(loaded)
        report = msgspec.structs.replace(report, at_next_start=at_next_start(settings, loaded.settings))
        if report.at_next_start:
            _log.warning("reloaded, but these settings wait for the next start: %s", ", ".join(report.at_next_start))
        return report

    service = Service(orchestrator, settings, conversations, reload if load is not None else None, journal)
    await service.responses.load()
    with listening(settings.server) if sockets is None else nullcontext(sockets) as sockets:
        if settings.server.admin_port is not None:
            apps = [create_app(service, FACES), create_app(service, ADMIN)]
        else:
            apps = [create_app(service, [*FACES, *(each for each in ADMIN if each not in FACES)])]
        servers = [make_server(app, settings.server, service.turned_away) for app in apps]
        urls = [url_of(each, settings.server) for each in sockets]
        failure: Exception | None = None
        async with orchestrator, anyio.create_task_group() as group:
            service.kept.group = group
            group.start_soon(_sweep, service)
            for server, bound in zip(servers, sockets, strict=True):
                await group.start(_serve, server, [bound])
            if settings.server.tls is not None:
                group.start_soon(ServedCertificate(settings.server.tls, servers, orchestrator).watch)
            ready = _ready(orchestrator, urls)
            try:
                yield Serving(service, ready)
            except Exception as exc:  # raised below: inside, the group would wrap it
                failure = exc
            finally:
                with anyio.CancelScope(shield=True):
                    await _stop(service, servers, settings.server.shutdown_grace_s)
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure


@contextmanager
def listening(settings: ServerSettings) -> Iterator[list[socket.socket]]:
    """Hold the ports of the settings while the block runs: that for tasks and, where it has its own, for operations.

    Raises:
        ConfigurationError: One of them cannot be had.
    """
    sockets: list[socket.socket] = []
    try:
        sockets.append(bind(settings.host, settings.port, "--port, ORCHD_PORT or server.port"))
        if settings.admin_port is not None:
            chosen_by = "ORCHD_SERVER__ADMIN_PORT or server.admin_port"
            sockets.append(bind(settings.host, settings.admin_port, chosen_by))
        yield sockets
    finally:
        for bound in sockets:
            bound.close()


def run(
    load: Callable[[], Loaded],
    *,
    plugins: PluginHost | None = None,
    engine: AbstractAsyncContextManager[object] | None = None,
    on_ready: Callable[[Ready], None] = lambda ready: None,
    on_settings: Callable[[Loaded], None] = lambda loaded: None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second one cuts the grace short. SIGHUP reloads the settings, all or none.

    Args:
        load: Reads the settings; called at the start, again once `engine` runs, and for each reload.
        plugins: Where adapters come from; the installed plugins when absent.
        engine: Entered before all that serves and left after it: an engine of the host's own.
        on_ready: Called when the host serves.
        on_settings: Called with the settings that are in force from now on: at the start, and after each reload.

    Raises:
        ConfigurationError: As `serving`, and what `load` and `engine` raise.
    """
    options = {"use_uvloop": True} if find_spec("uvloop") else {}
    anyio.run(_run, _Run(load, plugins, engine, on_ready, on_settings), backend_options=options)


class _Run:
    """One run of a host, and what signals do to it."""

    def __init__(
        self,
        load: Callable[[], Loaded],
        plugins: PluginHost | None,
        engine: AbstractAsyncContextManager[object] | None,
        on_ready: Callable[[Ready], None],
        on_settings: Callable[[Loaded], None],
    ) -> None:
        self._load = load
        self._plugins = plugins
        self._engine = engine
        self._on_ready = on_ready
        self._on_settings = on_settings
        self._host: Serving | None = None
        self._stop = anyio.Event()

    async def serve(self) -> None:
        loaded = self._load()
        with listening(loaded.settings.server) as sockets:  # first: an engine takes long to start
            async with self._engine or nullcontext():
                if self._engine is not None:
                    loaded = self._load()  # which know now where it is
                self._on_settings(loaded)
                async with serving(
                    loaded.settings,
                    plugins=self._plugins,
                    load=self._load,
                    on_reloaded=self._on_settings,
                    sockets=sockets,
                ) as self._host:
                    with _garbage_looked_for_less():
                        self._on_ready(self._host.ready)
                        await self._stop.wait()
        _log.info("stopped: what was opened is closed")

    async def obey(self, signals: AsyncIterable[signal.Signals], everything: anyio.abc.TaskGroup) -> None:
        async for received in signals:
            if self._host is None:
                if received != signal.SIGHUP:
                    everything.cancel_scope.cancel()
            elif received == signal.SIGHUP:
                # Beside: a reload waits for engines, and SIGTERM must not wait for the reload.
                everything.start_soon(_reload_on_signal, self._host.service)
            elif self._stop.is_set():
                _log.info("got %s again: not waiting any longer for what runs", received.name)
                self._host.service.hurry.set()
            else:
                _log.info(
                    "got %s: refusing new tasks, finishing those there are, for %g s at most "
                    "(server.shutdown_grace_s); a second signal does not wait for them",
                    received.name, self._host.service.settings.shutdown_grace_s,
                )  # fmt: skip
                self._stop.set()


@contextmanager
def _garbage_looked_for_less() -> Iterator[None]:
    """Have the collector of cycles pass over what is there at the start, and look less often at what comes.

    A task makes some hundreds of objects that its end frees by itself. Looking for cycles among them, and now and then
    among all that the modules hold, took a fifth of a request, and the longest pauses.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _run(run: _Run) -> None:
    failure: Exception | None = None
    # Handled before anything is open, so that an impatient signal does not leave half of it behind.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(run.obey, signals, group)
            try:
                await run.serve()
            except Exception as exc:  # raised below: inside, the group would wrap it
                failure = exc
            group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _ready(orchestrator: Orchestrator, urls: list[str]) -> Ready:
    models = orchestrator.models()
    told = {name: found[1].capabilities for name in models if (found := orchestrator.model_props(name)) is not None}
    return Ready(
        url=urls[0],
        admin_url=urls[-1],
        models=models,
        text_models=tuple(name for name in models if Capability.TEXT in told.get(name, ())),
        example=first_call(orchestrator, urls[0]),
        pid=os.getpid(),
    )


async def _reload_on_signal(service: Service) -> None:
    if service.reload is None:
        _log.warning("got SIGHUP, and there is no settings file to read again")
        return
    try:
        await service.reload()
    except AdapterError:
        pass  # it was told where it was refused
    except Exception:  # a bug, of a plugin's for one: the host goes on with what it has
        _log.exception("reload broke, everything stays as it was")


async def _serve(server: Server, sockets: list[socket.socket], *, task_status: anyio.abc.TaskStatus[None]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, sockets)
        await server.listening.wait()
        task_status.started()


async def _sweep(service: Service) -> None:
    """What people and models said shall not stay in memory longer than it is kept, though nobody asks for it."""
    while True:
        await anyio.sleep(SWEEP_S)
        service.sweep()


async def _stop(service: Service, servers: list[Server], grace_s: float) -> None:
    """Let what runs finish within the grace, tell the rest that the host closes, then close the connections."""
    service.closing.set()
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_when, service.hurry, group.cancel_scope)
        async with anyio.create_task_group() as draining:
            for pool in service.orchestrator.pools:
                draining.start_soon(_drain, service.orchestrator, pool.pool_id, grace_s)
        group.cancel_scope.cancel()
    await service.orchestrator.end_tasks()
    for server in servers:
        server.stop()
    with anyio.move_on_after(LAST_WORDS_S):
        for server in servers:
            await server.finished.wait()


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _drain(orchestrator: Orchestrator, pool_id: str, grace_s: float) -> None:
    report = await orchestrator.drain(pool_id, timeout_s=grace_s)
    if not report.drained:
        _log.warning(
            "pool %s still had %d tasks when the grace of %g s was over (server.shutdown_grace_s): each ends in one "
            "error of code closed",
            pool_id, report.in_flight, grace_s,
        )  # fmt: skip
