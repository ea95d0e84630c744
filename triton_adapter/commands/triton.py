"""`worker-adapter triton`: the embedded server in the foreground."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from adapter_api import EngineFailed
from adapter_kit.printable import printable, printable_line
from adapter_kit.standard_streams import abandon, tell
from triton_adapter.embedded import PYTHON_VARIABLE, EmbeddedTriton

_CRASH_CHECK_S = 0.3
_PORTS = "Ports"
_STARTED = "started"
_STOP = "stop"

PortOption = Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free one", rich_help_panel=_PORTS)]


def triton(
    model_repository: Annotated[
        Path | None, typer.Option(help="Folder with the models to serve.", show_default="the demo models")
    ] = None,
    grpc_port: PortOption = None,
    http_port: PortOption = None,
    metrics_port: PortOption = None,
    model_control_mode: Annotated[
        Literal["none", "explicit", "poll"], typer.Option(help="Who loads models: the server, requests, or a poll.")
    ] = "none",
    load_model: Annotated[
        list[str] | None, typer.Option(help="A model to load at start in explicit mode, '*' for all; may be repeated.")
    ] = None,
    startup_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until every model must be ready.")] = 60.0,
    log_file: Annotated[
        Path | None, typer.Option(help="Append the server's output to this file.", show_default="a temporary file")
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            envvar=PYTHON_VARIABLE,
            show_default="this one, or the one that the set-up made",
            help="Python 3.11 or 3.12 with nvidia-pytriton and numpy<2, for the server and its models.",
        ),
    ] = None,
    backend_directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default="the Python backend only",
            help="Folder with more backends, one folder each, as in DIR/vllm.",
        ),
    ] = None,
    all_cores: Annotated[
        bool,
        typer.Option(
            help="Use every core: streams come in finer pieces, and Triton 2.51 can freeze when they are cancelled. "
            "Without it the server shares one core, and tokens made in quick succession arrive several at a time."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Once ready, print one JSON object with the URLs, models and pid.")
    ] = False,
) -> int:
    """Run a real Triton server on the loopback interface until Ctrl-C or SIGTERM; then stop all it started."""
    server = EmbeddedTriton(
        model_repository,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        model_control_mode=model_control_mode,
        load_models=load_model or (),
        startup_timeout_s=startup_timeout,
        log_file=log_file,
        all_cores=all_cores,
        python=python,
        backend_directory=backend_directory,
        on_progress=lambda line: tell(printable_line(line)),
    )
    happenings: queue.SimpleQueue[object] = queue.SimpleQueue()
    _stop_on_signals(happenings)
    # In a thread, so that a signal can end a start under way.
    threading.Thread(target=_start, args=(server, happenings), daemon=True).start()
    try:
        happened = happenings.get()
        if isinstance(happened, Exception):
            raise happened
        if happened is _STARTED:
            _announce(server, as_json=as_json)
            _wait(server, happenings)
        tell("stopping")
    finally:
        server.stop()
    return 0


def _start(server: EmbeddedTriton, happenings: queue.SimpleQueue[object]) -> None:
    try:
        server.start()
    except Exception as exc:
        happenings.put(exc)
    else:
        happenings.put(_STARTED)


def _stop_on_signals(happenings: queue.SimpleQueue[object]) -> None:
    def ask(number: int, frame: object) -> None:
        # The second time there is no more waiting; the server ends when this process does.
        signal.signal(number, lambda *_: os._exit(128 + number))
        happenings.put(_STOP)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)


def _announce(server: EmbeddedTriton, *, as_json: bool) -> None:
    told = _as_json(server) if as_json else _for_people(server)
    try:
        typer.echo(told)
    except OSError as exc:  # whoever reads it will miss it; whoever sends work to the server will not
        abandon(sys.stdout)
        tell(f"cannot write where the server is to standard output: {exc.strerror}; it is {server.grpc_url}")
    if not as_json:
        tell(f"Try `worker-adapter models --url {server.grpc_url}` in another terminal; Ctrl-C stops the server.")


def _as_json(server: EmbeddedTriton) -> str:
    return json.dumps(
        {
            "grpc_url": server.grpc_url,
            "http_url": server.http_url,
            "metrics_url": server.metrics_url,
            "models": server.models,
            "pid": server.pid,
        }
    )


def _for_people(server: EmbeddedTriton) -> str:
    fields = (
        ("gRPC", server.grpc_url),
        ("HTTP", server.http_url),
        ("metrics", server.metrics_url),
        ("models", ", ".join(server.models)),
        ("log", str(server.log_path)),
        ("pid", str(server.pid)),
    )
    return "\n".join(printable_line(f"{name:<8}  {value}") for name, value in fields)


def _wait(server: EmbeddedTriton, happenings: queue.SimpleQueue[object]) -> None:
    """Return when asked to stop; raise `EngineFailed` when the server ends before that."""
    while server.is_running:
        try:
            happenings.get(timeout=_CRASH_CHECK_S)
        except queue.Empty:
            continue
        return
    tell(printable(server.log_tail()))
    raise EngineFailed("the Triton server ended by itself; the last lines of its log are above")
