"""`worker-adapter`: the program's entry. Commands are imported when they are run, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from adapter_api import InvalidRequest, PluginCommand
from adapter_kit.standard_streams import open_streams, settle_streams
from worker_adapter.command_group import LazyGroup
from worker_adapter.exit_codes import ExitCode
from worker_adapter.reporting import report
from worker_adapter.terminal import note

# click's own, or the copy of it that newer typer carries.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def _own(name: str, help: str) -> PluginCommand:
    return PluginCommand(name=name, target=f"worker_adapter.commands.{name}:{name}", help=help)


class ProgramGroup(LazyGroup):
    own = (
        _own("demo", "Start an engine, watch tasks stream from it, stop it."),
        _own("submit", "Send one task to an engine and stream the answer."),
        _own("chat", "Talk with a model, in a terminal or through a pipe."),
        _own("health", "Say how an engine is."),
        _own("props", "Say what an engine is and what it can do."),
        _own("models", "List an engine's models."),
        _own("doctor", "Say what is wrong with an engine, and what to do."),
        _own("infer", "Run one inference on tensors."),
        _own("detect", "Find things in pictures with a detector, and draw them."),
        _own("determinism", "Send the same task often and compare the answers."),
        _own("bench", "Measure an engine, and beside it other clients of it."),
        _own("serve", "Serve tasks on HTTP, from pools of engines."),
        _own("rollout", "Compare the pools of a running host."),
        _own("check", "Say whether a host could serve with its settings."),
        _own("conformance", "Say whether an adapter keeps the contract: run the suite on it."),
        PluginCommand(
            name="dynamo-worker",
            target="worker_adapter.commands.dynamo_worker:dynamo_worker",
            help="Serve an engine's models in an NVIDIA Dynamo cluster.",
        ),
        _own("plugins", "List the installed plugins, the broken ones included."),
    )

    # Typer would end the process with a code of its own when the reader goes away, of `--help` too.

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _reader_may_go():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _reader_may_go():
            return super().invoke(ctx)


class _ReaderGone(Exception):
    """A broken pipe, under a name that typer does not know."""


@contextmanager
def _reader_may_go() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as exc:
        raise _ReaderGone from exc


program = typer.Typer(
    cls=ProgramGroup,
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"worker-adapter {version('worker-adapter')}")
        raise typer.Exit


@program.callback(
    epilog="Exit codes: 0 done, 1 the task ended in an error, 2 usage, 3 cannot reach the engine, 130 cancelled."
)
def _program(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Send work to inference engines through one contract, whatever they are."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


def main() -> int:
    """Run the program with the process's arguments and return its exit code. Never raises but on a second Ctrl-C."""
    # Before it is imported, and unless the user wants it otherwise: grpc writes lines of its own to standard error,
    # among ours. What they say we are told as well, by the errors of its calls.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    open_streams()
    # Before anything is parsed, because errors of parsing are told in the same way.
    options = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    as_json, debug = "--json" in options, "--debug" in options

    def told(exc: Exception) -> int:
        return report(exc, as_json=as_json, debug=debug)

    try:
        code = _run()
    except KeyboardInterrupt:
        code = _interrupted()
    except _ReaderGone:
        code = told(BrokenPipeError())
    except Exception as exc:
        code = told(exc)
    unwritten = settle_streams()
    return told(unwritten) if unwritten is not None and code == ExitCode.DONE else code


def _run() -> int:
    command = typer.main.get_command(program)
    try:
        code = command.main(args=sys.argv[1:], prog_name="worker-adapter", standalone_mode=False)
    except typer.Abort:
        return _interrupted()
    except _UsageError as exc:
        raise InvalidRequest(_sentence(exc)) from exc
    return code if isinstance(code, int) else ExitCode.DONE


def _sentence(exc: Any) -> str:
    place = exc.ctx.command_path if exc.ctx else "worker-adapter"
    # A group of commands that is called alone has shown its help, and says nothing.
    message = exc.format_message().strip().rstrip(".") or "name one of its commands"
    if message.startswith("Got unexpected extra argument"):
        # Its words are a prompt that was not quoted, and prompts are not repeated.
        message = "too many arguments: put a prompt of several words in quotes"
    joint = " " if message.endswith("?") else "; "
    return f"{message[:1].lower()}{message[1:]}{joint}`{place} --help` shows what there is"


def _interrupted() -> int:
    note("interrupted", "yellow")
    return ExitCode.CANCELLED
