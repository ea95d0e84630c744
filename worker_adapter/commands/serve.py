"""`worker-adapter serve`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from adapter_api import AdapterPlugin, InvalidRequest
from adapter_kit.standard_streams import abandon, tell
from worker_adapter.demo.engine import EngineFactory, choose_plugin
from worker_adapter.engine_options import JsonOption
from worker_adapter.engine_watch import watching
from worker_adapter.host_options import ConfigOption, load_host_settings, server_is_missing
from worker_adapter.installed import installed_plugins
from worker_adapter.reporting import write_json
from worker_adapter.terminal import Style, note, without_controls

if TYPE_CHECKING:
    from orchestrator.config import Loaded, LogSettings
    from orchestrator.serve import Ready

_logger = logging.getLogger("worker_adapter.serve")
_NOWHERE_YET = "grpc://127.0.0.1:0"


def serve(
    config: ConfigOption = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start an engine of our own behind the host, for a first look.")
    ] = False,
    adapter: Annotated[
        str | None, typer.Option("--adapter", "-a", metavar="NAME", help="Whose engine --embedded starts.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Which port; 0: any free one.", show_default="8080")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; there is one.", hidden=True)] = 1,
    as_json: JsonOption = False,
) -> None:
    """Serve tasks on HTTP until Ctrl-C or SIGTERM. SIGHUP reads the settings again.

    Tasks over server-sent events, an OpenAI-compatible API and the v2 inference protocol; / is a status page, /docs
    describes the API.
    """
    if workers != 1:
        raise InvalidRequest(
            "--workers is 1: queues, cancels, sessions and limits are those of one process; "
            "to grow beyond it run several hosts behind a balancer that keeps sessions together, or the Dynamo worker"
        )
    try:
        from orchestrator.observability.logging import configure_logging
        from orchestrator.serve import run
    except ImportError as exc:
        raise server_is_missing(exc) from exc
    variables = {"ORCHD_HOST": host, "ORCHD_PORT": None if port is None else str(port)}
    more = {name: value for name, value in variables.items() if value is not None}
    plugins = installed_plugins()
    log = _Log(configure_logging)
    engine = _engine(choose_plugin(plugins, adapter), more, log) if embedded else None

    def load() -> Loaded:
        loaded = load_host_settings(config, more)
        log.read(loaded)
        return loaded

    announce = _announce_as_json if as_json else _announce
    run(load, plugins=plugins, engine=engine, on_ready=lambda ready: announce(ready, log), on_settings=log.use)


class _Log:
    """Logs as the settings in force say, and no secret of any settings that were ever read: some are only tried."""

    def __init__(self, configure: Callable[[LogSettings, Collection[str]], None]) -> None:
        self._configure = configure
        self._secrets: set[str] = set()
        self._in_force: LogSettings | None = None
        self.is_for_programs = False
        """Whether standard error takes records in JSON and nothing else: so it is unless a terminal is there."""

    def read(self, loaded: Loaded) -> None:
        self._secrets |= loaded.secrets
        self._apply(self._in_force or loaded.settings.log)

    def use(self, loaded: Loaded) -> None:
        self._in_force = loaded.settings.log
        self._apply(self._in_force)

    def tell(self, text: str, style: Style = "dim", level: int = logging.INFO, **fields: object) -> None:
        """Say what is for people: as a line to them, or as a record where standard error is for a program to read."""
        if self.is_for_programs:
            _logger.log(level, text, extra=fields)
        else:
            note(text, style)

    def tell_end(self, what: str, tail: str) -> None:
        """Tell that the embedded engine ended by itself: as an error in the log, and in lines at a terminal."""
        if sys.stderr.isatty():
            tell(without_controls(tail))
            note(what, "red")
        _logger.error("%s", what, extra={"engine_log": tail.splitlines()})

    def _apply(self, settings: LogSettings) -> None:
        self._configure(settings, self._secrets)
        self.is_for_programs = settings.format == "json" and not sys.stderr.isatty()


def _engine(plugin: AdapterPlugin, more: dict[str, str], log: _Log) -> AbstractAsyncContextManager[object]:
    """Return the plugin's engine as something to enter, which then tells the settings where it is."""
    factory: EngineFactory = plugin.load("embedded")
    stem = f"ORCHD_{plugin.name.upper().replace('-', '_')}"
    # The settings are read before it has an address, too: where to listen, and how to log that it starts.
    more[f"{stem}_URL"] = _NOWHERE_YET

    @asynccontextmanager
    async def running() -> AsyncIterator[object]:
        async with factory(on_progress=log.tell) as engine:
            more[f"{stem}_URL"] = engine.grpc_url
            more[f"{stem}_METRICS_URL"] = engine.metrics_url
            if options := getattr(engine, "options", None):
                more[f"{stem}_OPTIONS"] = json.dumps(dict(options))
            async with watching(engine, log.tell_end) if hasattr(engine, "is_running") else nullcontext():
                yield engine

    return running()


def _announce(ready: Ready, log: _Log) -> None:
    serving = f"serving {', '.join(ready.models) or 'no model yet'} on {ready.url}"
    if log.is_for_programs:
        log.tell(serving, **msgspec.structs.asdict(ready))
        return
    note(f"{serving}; Ctrl-C stops", "green")
    note(f"  {ready.example}")
    if ready.admin_url != ready.url:
        note(f"  operations: {ready.admin_url}")


def _announce_as_json(ready: Ready, log: _Log) -> None:
    try:
        write_json(msgspec.json.encode(ready))
    except OSError as exc:  # whoever reads the line will miss it, and whoever sends tasks will not
        abandon(sys.stdout)
        said = f"cannot write where the host is to standard output: {exc.strerror}; it is {ready.url}"
        log.tell(said, "yellow", logging.WARNING)
