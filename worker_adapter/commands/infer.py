"""`worker-adapter infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from adapter_api import (
    AdapterError,
    ConfigurationError,
    Error,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ModelNotFound,
    ModelProps,
    NotReady,
    RequestedOutput,
    Sequence,
    Unsupported,
    WorkerAdapter,
    encode_event,
)
from worker_adapter import tensor_output
from worker_adapter.engine_options import (
    AdapterOption,
    JsonOption,
    SettingsOption,
    UrlOption,
    make_adapter,
    with_adapter,
)
from worker_adapter.exit_codes import ExitCode, code_for_task
from worker_adapter.reporting import print_error, write_json
from worker_adapter.task_input import parse_parameter
from worker_adapter.tensor_input import is_law, read_inputs
from worker_adapter.terminal import note

_OUTPUT = "Output"
_SEQUENCE = "Sequence"


def infer(
    model: Annotated[str, typer.Option("--model", "-m", help="Which model.")],
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME[:DATATYPE]=VALUE",
            help="An input: JSON numbers, text, or @FILE (.npy, or bytes); may be repeated.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    model_version: Annotated[str | None, typer.Option(show_default="the engine's choice")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the request; may be repeated.", show_default=False),
    ] = None,
    priority: Annotated[int | None, typer.Option(min=0, help="1 is the highest.", show_default=False)] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, help="For the whole inference.", show_default="the adapter's"),
    ] = None,
    sequence_id: Annotated[
        str | None,
        typer.Option(rich_help_panel=_SEQUENCE, help="The sequence it belongs to: a number or a text."),
    ] = None,
    sequence_start: Annotated[
        bool, typer.Option("--sequence-start", rich_help_panel=_SEQUENCE, help="It is the first of its sequence.")
    ] = False,
    sequence_end: Annotated[
        bool, typer.Option("--sequence-end", rich_help_panel=_SEQUENCE, help="It is the last of its sequence.")
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_OUTPUT, help="An output to return; may be repeated.", show_default="all"),
    ] = None,
    classification: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_OUTPUT, help="Return so many best classes instead of all values."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", rich_help_panel=_OUTPUT, help="Show each response of the model as it comes.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=_OUTPUT, help="Write each output to NAME.npy in this folder."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Run one inference on tensors and show the outputs. Datatypes and shapes are the model's, where it tells them.

    `--json` prints all values, one object per response. NAME=@@x is the text "@x".
    """
    fields: dict[str, Any] = {
        "model_version": model_version,
        "parameters": dict(parse_parameter(each, "NAME=VALUE, as in temperature=0.5") for each in parameter or ()),
        "priority": priority,
        "timeout_s": timeout,
        "sequence": _sequence(sequence_id, start=sequence_start, end=sequence_end),
    }
    printer = _Printer(as_json=as_json, folder=save, numbered=stream)

    async def run(opened: WorkerAdapter) -> int:
        declared = await _declared(opened, model)
        request = InferRequest(
            model=model,
            inputs=read_inputs(input or (), {spec.name: spec for spec in declared.inputs}),
            outputs=_outputs(output or [], classification, declared),
            **{name: value for name, value in fields.items() if value is not None},
        )
        try:
            if stream:
                async with opened.infer_stream(request) as responses:
                    async for response in responses:
                        printer.write(response)
            else:
                printer.write(await opened.infer(request))
        except ConfigurationError:
            raise
        except AdapterError as exc:
            # Told here, for it is the engine's answer to something that was sent: no usage error.
            return _tell(exc, stream=stream, as_json=as_json)
        return ExitCode.DONE

    return with_adapter(make_adapter(url, adapter, option), run)


class _Printer:
    def __init__(self, *, as_json: bool, folder: Path | None, numbered: bool) -> None:
        self._as_json = as_json
        self._folder = folder
        self._numbered = numbered
        self._count = 0

    def write(self, response: InferResponse) -> None:
        if self._as_json:
            write_json(msgspec.json.encode(tensor_output.document(response)))
        else:
            if self._count:
                print()
            tensor_output.print_response(response)
        if self._folder is not None:
            number = self._count if self._numbered else None
            for path in tensor_output.save(response, self._folder, number=number):
                note(f"wrote {path}")
        self._count += 1


async def _declared(adapter: WorkerAdapter, model: str) -> ModelProps:
    """Return what is known of the model; nothing, when the engine does not tell: then its own answer says more."""
    try:
        return await adapter.model_props(model)
    except (ModelNotFound, NotReady, Unsupported):
        return ModelProps(name=model)


def _outputs(names: list[str], classification: int | None, model: ModelProps) -> tuple[RequestedOutput, ...]:
    known = [spec.name for spec in model.outputs]
    certain = known and is_law(model.outputs)
    for name in names:
        if certain and name not in known:
            raise InvalidRequest(f"model {model.name!r} has no output {name!r}; it has {', '.join(known)}")
    if classification is None:
        return tuple(map(RequestedOutput, names))
    if not (names or known):
        raise InvalidRequest("--classification needs --output NAME: the model does not tell its outputs")
    return tuple(RequestedOutput(name, classification) for name in names or known)


def _sequence(id: str | None, *, start: bool, end: bool) -> Sequence | None:
    if id is None:
        if start or end:
            raise InvalidRequest("--sequence-start and --sequence-end need --sequence-id")
        return None
    return Sequence(id=int(id) if id.isdecimal() else id, start=start, end=end)


def _tell(exc: AdapterError, *, stream: bool, as_json: bool) -> ExitCode:
    if isinstance(exc, Unsupported) and not stream:
        exc = Unsupported(f"{exc.message} (here: --stream)" if "stream" in exc.message else exc.message)
    error = Error.from_exception(exc)
    if as_json:
        write_json(encode_event(error))
    else:
        print_error(error)
    return code_for_task(error)
