"""`worker-adapter demo`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker_adapter.engine_options import JsonOption
from worker_adapter.exit_codes import ExitCode
from worker_adapter.installed import installed_plugins

if TYPE_CHECKING:
    from worker_adapter.demo.view import View


def demo(
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", "-a", metavar="NAME", show_default="the only one", help="Whose engine to start."),
    ] = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """Start a real engine on this machine, let the orchestrator run tasks on it, cancel one, and stop everything.

    Nothing is left behind: no process, no port, no file. Ctrl-C ends it early, just as cleanly.
    """
    from worker_adapter.demo.engine import choose_plugin
    from worker_adapter.demo.show import Show

    host = installed_plugins()
    plugin = choose_plugin(host, adapter)
    return Show(host, plugin, _view(as_json)).run()


def _view(as_json: bool) -> View:
    if as_json:
        from worker_adapter.demo.json_view import JsonView

        return JsonView()
    # A dumb terminal can draw nothing anew.
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from worker_adapter.demo.live_view import LiveView

        return LiveView()
    from worker_adapter.demo.line_view import LineView

    return LineView()
