"""`worker-adapter detect`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from adapter_api import AdapterError, ConfigurationError, Error, InvalidRequest, WorkerAdapter
from adapter_api.options import parse_options
from worker_adapter.engine_options import (
    AdapterOption,
    JsonOption,
    SettingsOption,
    UrlOption,
    make_adapter,
    with_adapter,
)
from worker_adapter.exit_codes import ExitCode, code_for_command, code_for_task
from worker_adapter.picture_files import Target, find_pictures
from worker_adapter.reporting import print_error, write_json
from worker_adapter.terminal import has_colour, note, one_line, print_table

if TYPE_CHECKING:
    from adapter_clients import DetectionClient, DetectionResult

    Outcome = DetectionResult | AdapterError

_MODEL = "What it does not tell itself"
_OUTPUT = "Output"


def detect(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE…", help="Pictures, or folders of them.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Which model.")],
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, show_default="0.25, or 0.5", help="Only boxes that are surer.")
    ] = None,
    iou: Annotated[
        float | None, typer.Option(min=0, max=1, show_default="0.7, or 0.45", help="Boxes that overlap more are one.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="For each picture, repetitions included.")
    ] = 60.0,
    layout: Annotated[
        Literal["raw", "rows", "objectness", "yolox", "rtdetr", "rfdetr", "detr"] | None,
        typer.Option(rich_help_panel=_MODEL, show_default=False, help="The family of its output."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_MODEL, show_default=False, help="Its classes, one a line."),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            "--detector", "-d", metavar="KEY=VALUE", rich_help_panel=_MODEL, show_default=False,
            help="Another setting of the detection client, as in activation=sigmoid; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", rich_help_panel=_OUTPUT, show_default=False,
            help="Draw the boxes: a file for one picture, a folder for several.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", rich_help_panel=_OUTPUT, show_default=False,
            help="Ask a second model too, and draw both side by side.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Find things in pictures and show what they are and where, in pixels of the upright picture.

    `--json` prints one object per picture, and model. A picture that cannot be read is told, and the others go on.
    """
    from adapter_clients import DetectionClient, DetectionSettings

    files = find_pictures(pictures)
    target = Target(out, files, several=len(files) > 1) if out is not None else None
    if compare is not None and compare == model:
        raise InvalidRequest("--compare names the same model as --model")
    given = {"confidence": confidence, "iou": iou, "layout": layout, "names_file": names}
    settings = DetectionSettings.make(
        timeout_s=timeout, **{name: value for name, value in given.items() if value is not None},
        **parse_options(detector or ()),
    )  # fmt: skip
    models = [model] if compare is None else [model, compare]

    async def run(opened: WorkerAdapter) -> int:
        client = DetectionClient(opened, settings)
        show = _Show(client, files, models, target, as_json=as_json)
        return await show.run()

    return with_adapter(make_adapter(url, adapter, option), run)


class _Show:
    def __init__(
        self, client: DetectionClient, files: list[Path], models: list[str], target: Target | None, *, as_json: bool
    ) -> None:
        self._client = client
        self._files = files
        self._models = models
        self._target = target
        self._as_json = as_json
        self._failures: list[Error] = []

    async def run(self) -> int:
        # The models' streams go on side by side, and at the same pace: one waits for the other.
        streams = [self._client.detect_each(map(str, self._files), model=model) for model in self._models]
        with _progress(len(self._files), as_json=self._as_json) as advance:
            try:
                for file in self._files:
                    self._tell(file, [await anext(stream) for stream in streams])
                    advance()
            finally:
                for stream in streams:
                    await stream.aclose()  # type: ignore[attr-defined]
        if not self._failures:
            return ExitCode.DONE
        if len(self._failures) < len(self._files) * len(self._models):
            return ExitCode.FAILED
        # Nothing worked: say why as a command for one picture would.
        first = self._failures[0]
        return code_for_command(first) if len(self._files) == 1 else code_for_task(first)

    def _tell(self, file: Path, outcomes: list[Outcome]) -> None:
        for model, outcome in zip(self._models, outcomes, strict=True):
            if isinstance(outcome, AdapterError):
                self._complain(file, model, outcome)
            elif self._as_json:
                write_json(msgspec.json.encode({"file": str(file), **outcome.document()}))
            else:
                self._print(file, outcome)
        if self._target is not None and not any(isinstance(each, AdapterError) for each in outcomes):
            self._draw(self._target, file, outcomes)

    def _complain(self, file: Path, model: str, exc: AdapterError) -> None:
        if isinstance(exc, ConfigurationError) and len(self._files) == 1:
            raise exc
        error = Error.from_exception(exc)
        self._failures.append(error)
        if self._as_json:
            write_json(msgspec.json.encode({"file": str(file), "model": model, "error": error}))
        else:
            print_error(msgspec.structs.replace(error, message=f"{file.name}: {error.message}"))

    def _print(self, file: Path, result: DetectionResult) -> None:
        if len(self._files) > 1 or len(self._models) > 1:
            print(f"{one_line(str(file))}, {one_line(result.model)}:")
        if result.detections:
            rows = [
                (each.class_name, f"{each.confidence:.3f}", *(f"{value:.1f}" for value in each.box))
                for each in result.detections
            ]
            print_table(("CLASS", "CONFIDENCE", "X1", "Y1", "X2", "Y2"), rows)
        else:
            print("nothing was found")
        time = result.timings
        note(
            f"{len(result.detections)} found in {result.width} x {result.height} pixels, layout {result.layout} (told "
            f"by {result.layout_reason}); {time.total_s * 1e3:.0f} ms, of which the engine {time.infer_s * 1e3:.0f}"
        )

    def _draw(self, target: Target, file: Path, outcomes: list[Any]) -> None:
        from adapter_clients.detection.drawing import draw_detections, side_by_side

        limits = self._client.settings.limits
        drawn = [draw_detections(str(file), outcome, limits) for outcome in outcomes]
        if len(drawn) > 1:
            titles = [f"{each.model}: {len(each.detections)} found" for each in outcomes]
            drawn = [side_by_side(drawn, titles)]
        note(f"drew {target.write(file, drawn[0])}")


@contextmanager
def _progress(pictures: int, *, as_json: bool) -> Iterator[Any]:
    """Show how far several pictures are, on a terminal."""
    to_terminal = sys.stdout.isatty()
    if pictures < 2 or not has_colour(sys.stderr) or (as_json and to_terminal):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        redirect_stdout=to_terminal,  # what is printed meanwhile goes above the bar
    ) as bar:  # fmt: skip
        task = bar.add_task("pictures", total=pictures)
        yield lambda: bar.advance(task)
