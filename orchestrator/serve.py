"""Serving: an orchestrator behind its HTTP faces, until a signal says to stop.

`worker-adapter serve` calls `run`; a program that has an event loop of its own enters `serving`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from time import monotonic

import anyio
import anyio.abc
import msgspec

from adapter_api import AdapterError, PluginHost
from orchestrator.config import HostSettings, Loaded
from orchestrator.conversation import Conversations
from orchestrator.fleet import ReloadReport
from orchestrator.history import Histories
from orchestrator.host import Orchestrator
from orchestrator.http.app import ADMIN, FACES, create_app
from orchestrator.http.server import Server, bind, make_server, url_of
from orchestrator.http.service import Service

_log = logging.getLogger("orchestrator.serve")


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Told when the host serves."""

    url: str
    admin_url: str
    models: tuple[str, ...]
    pid: int


class Serving:
    """A host that serves. `reload` reads the settings again and goes over to them."""

    def __init__(self, service: Service, ready: Ready) -> None:
        self.service = service
        self.orchestrator = service.orchestrator
        self.ready = ready


@asynccontextmanager
async def serving(
    settings: HostSettings, *, plugins: PluginHost | None = None, load: Callable[[], Loaded] | None = None
) -> AsyncIterator[Serving]:
    """Serve while the block runs. On leaving, new tasks are refused and running ones have `shutdown_grace_s`.

    Args:
        settings: What to serve, and where.
        plugins: Where adapters come from; the installed plugins when absent.
        load: Reads the settings again, for a reload; without it there is none.

    Raises:
        ConfigurationError: Something in the settings cannot be had: a port, a certificate, an adapter, a template.
    """
    orchestrator = Orchestrator(settings, plugins=plugins)
    conversations = Conversations(orchestrator, Histories(settings.history, monotonic))
    conversations.load_templates()

    async def reload() -> ReloadReport:
        assert load is not None
        loaded = await anyio.to_thread.run_sync(load)
        return await orchestrator.reload(loaded.settings)

    service = Service(orchestrator, settings, conversations, reload if load is not None else None)
    sockets = [bind(settings.server.host, settings.server.port)]
    try:
        if settings.server.admin_port is not None:
            sockets.append(bind(settings.server.host, settings.server.admin_port))
            apps = [create_app(service, FACES), create_app(service, ADMIN)]
        else:
            apps = [create_app(service, [*FACES, *ADMIN[1:]])]
        servers = [make_server(app, settings.server) for app in apps]
        urls = [url_of(each, settings.server) for each in sockets]
        failure: Exception | None = None
        async with orchestrator, anyio.create_task_group() as group:
            service.kept.group = group
            for server, bound in zip(servers, sockets, strict=True):
                await group.start(_serve, server, [bound])
            ready = Ready(url=urls[0], admin_url=urls[-1], models=orchestrator.models(), pid=os.getpid())
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
    finally:
        for bound in sockets:
            bound.close()


def run(
    loaded: Loaded,
    *,
    plugins: PluginHost | None = None,
    load: Callable[[], Loaded] | None = None,
    on_ready: Callable[[Ready], None] = lambda ready: None,
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the settings, all of them or none.

    Raises:
        ConfigurationError: As `serving`.
    """
    options = {"use_uvloop": True} if find_spec("uvloop") else {}
    anyio.run(_run, loaded, plugins, load, on_ready, backend_options=options)


async def _run(
    loaded: Loaded,
    plugins: PluginHost | None,
    load: Callable[[], Loaded] | None,
    on_ready: Callable[[Ready], None],
) -> None:
    # Handled before anything is open, so that an impatient signal does not leave half of it behind.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with serving(loaded.settings, plugins=plugins, load=load) as host:
            on_ready(host.ready)
            async for received in signals:
                if received != signal.SIGHUP:
                    _log.info("got %s: refusing new tasks, finishing those that run", signal.Signals(received).name)
                    return
                await _reload_on_signal(host.service)


async def _reload_on_signal(service: Service) -> None:
    if service.reload is None:
        _log.warning("got SIGHUP, and there is no settings file to read again")
        return
    try:
        report = await service.reload()
    except AdapterError as exc:
        _log.error("reload refused, everything stays as it was: %s", exc.message)
    else:
        _log.info("reloaded: %d replicas added, %d removed", len(report.added), len(report.removed))


async def _serve(server: Server, sockets: list[socket.socket], *, task_status: anyio.abc.TaskStatus[None]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, sockets)
        await server.listening.wait()
        task_status.started()


async def _stop(service: Service, servers: list[Server], grace_s: float) -> None:
    service.closing.set()
    async with anyio.create_task_group() as draining:
        for pool in service.orchestrator.pools:
            draining.start_soon(_drain, service.orchestrator, pool.pool_id, grace_s)
    for server in servers:
        server.stop()
    with anyio.move_on_after(grace_s + 5):
        for server in servers:
            await server.finished.wait()


async def _drain(orchestrator: Orchestrator, pool_id: str, grace_s: float) -> None:
    report = await orchestrator.drain(pool_id, timeout_s=grace_s)
    if not report.drained:
        _log.warning("pool %s still had %d tasks when the grace was over", pool_id, report.in_flight)
