"""`worker-adapter bench`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapter_api import ConfigurationError, Error, InvalidRequest, encode_event
from worker_adapter.bench.plan import LEAST_ROUNDS, Plan
from worker_adapter.engine_command import tell
from worker_adapter.engine_options import (
    AdapterOption,
    JsonOption,
    SettingsOption,
    UrlOption,
    adapter_name,
    make_adapter,
)
from worker_adapter.exit_codes import ExitCode, code_for_task
from worker_adapter.reporting import print_error, write_json
from worker_adapter.terminal import note, print_fields, print_table, say

if TYPE_CHECKING:
    from worker_adapter.bench.report import Report

_PROMPT = "Write a short story about a river that forgets its name."
_LOAD = "Load"
_OUTPUT = "Output"


def bench(
    target: Annotated[str | None, typer.Argument(metavar="[URL]", help="As --url.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model.", show_default="the engine's only text model")
    ] = None,
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    model_version: Annotated[str | None, typer.Option(show_default="the engine's choice")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to ask for.", show_default="a short story")] = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="Measure `infer`, also where the model takes text.")
    ] = False,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME[:DATATYPE]=VALUE",
            show_default="made up as the model declares them",
            help="An input of `infer`, as of `worker-adapter infer`; may be repeated, and means --tensors.",
        ),
    ] = None,
    dim: Annotated[int, typer.Option(min=1, help="The size of made-up inputs where the model leaves it open.")] = 1,
    streams: Annotated[
        int, typer.Option("--streams", "-s", min=1, max=4096, rich_help_panel=_LOAD, help="Tasks at once.")
    ] = 8,
    tokens: Annotated[
        int, typer.Option("--tokens", "-n", min=1, max=1_000_000, rich_help_panel=_LOAD, help="Of each task, at most.")
    ] = 64,
    tasks: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            rich_help_panel=_LOAD,
            help="Of each client in each round.",
            show_default="twice --streams",
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            "-r",
            min=LEAST_ROUNDS,
            max=1000,
            rich_help_panel=_LOAD,
            help="In each, every client has a turn.",
        ),
    ] = LEAST_ROUNDS,
    seconds: Annotated[
        float,
        typer.Option(min=1.0, max=86400.0, rich_help_panel=_LOAD, help="For all of it; whole rounds count."),
    ] = 60.0,
    slow_consumer: Annotated[
        float,
        typer.Option(
            "--slow-consumer",
            metavar="MS",
            min=0.0,
            max=60_000.0,
            rich_help_panel=_LOAD,
            help="Wait so long after each token, and show how memory grows.",
            show_default=False,
        ),
    ] = 0.0,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Measure other clients beside ours.")] = True,
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_OUTPUT, help="Write it here too, as Markdown."),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_OUTPUT, help="Draw the ratios here (needs the extra `bench`)."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Measure an engine through its adapter, and beside it other clients of the same engine: tritonclient.grpc.aio for
    Triton over gRPC, openai's SDK for OpenAI-compatible engines, where they are installed.

    The clients take turns in every round, and their answers are compared. The load is bounded, and said before it
    starts. Ctrl-C shows what was measured until then. Exits 1 when a task of ours failed, no round was done, or
    a client was answered something else.
    """  # fmt: skip
    if target is not None:
        if url not in (None, target, os.environ.get("WORKER_ADAPTER_URL")):
            raise ConfigurationError("the URL was given twice: as an argument and by --url")
        url = target
    _writable(markdown)
    if png is not None:
        from worker_adapter.bench.plot import need_matplotlib

        need_matplotlib()
        _writable(png)
    if input and prompt is not None:
        raise InvalidRequest("--input measures tensors and --prompt texts: give one of them")
    plan = Plan(
        kind="text", rounds=rounds, streams=streams, tasks=tasks or 2 * streams, tokens=tokens, seconds=seconds,
        pause_ms=slow_consumer,
    )  # fmt: skip
    opened = make_adapter(url, adapter, option)

    # Not before the options are known to be right.
    from worker_adapter.bench.measurement import Measurement, TaskFailed, Wanted

    wanted = Wanted(
        model=model, model_version=model_version, prompt=prompt or _PROMPT, inputs=tuple(input or ()),
        tensors=tensors or bool(input), dim=dim, plan=plan, peers=peers,
    )  # fmt: skip
    measurement = Measurement(opened, adapter_name(url, adapter), url, wanted, note)
    try:
        report = measurement.run()
    except TaskFailed as exc:
        return _failed(exc.error, as_json=as_json)
    if report is None:
        note("interrupted before anything was measured", "yellow")
        return ExitCode.CANCELLED
    tell(report, _print, as_json=as_json)
    _write(report, markdown, png)
    if report.stopped not in (None, "time"):
        return ExitCode.CANCELLED
    return ExitCode.DONE if report.succeeded else ExitCode.FAILED


def _failed(error: Error, *, as_json: bool) -> ExitCode:
    if as_json:
        write_json(encode_event(error))
    else:
        print_error(error)
    return code_for_task(error)


def _print(report: Report) -> None:
    from worker_adapter.bench.rendering import headings, remarks, rows

    sent = ", ".join(f"{name} {value}" for name, value in report.sent.items())
    print_fields(
        [
            (
                "model",
                f"{report.model}, on {report.engine_sentence}{f', by {report.transport}' if report.transport else ''}",
            ),
            ("sent", sent or "nothing of its own"),
            ("rounds", f"{report.rounds}; what is shown is min – median – max of them"),
            ("machine", report.machine.sentence),
        ]
    )
    print()
    print_table([heading.upper() for heading in headings(report)], rows(report), {})
    print()
    for remark in remarks(report):
        say(remark)


def _write(report: Report, markdown: Path | None, png: Path | None) -> None:
    if markdown is not None:
        from worker_adapter.bench.rendering import markdown as page

        try:
            markdown.write_text(page(report), encoding="utf-8")
        except OSError as exc:
            raise ConfigurationError(f"cannot write {markdown}: {exc.strerror}") from None
        note(f"wrote {markdown}")
    if png is not None:
        from worker_adapter.bench.plot import bars_of, draw

        bars = bars_of(report)
        if not bars:
            note(f"{png} was not drawn: there is no other client to compare with", "yellow")
            return
        draw(bars, f"{report.model}: worker-adapter beside other clients, {report.date}", png)
        note(f"wrote {png}")


def _writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before the engine is burdened for it."""
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigurationError(
            f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder is not there'}"
        )
