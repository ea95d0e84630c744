"""infer, generate and generate_stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from math import prod
from typing import Any

from triton_adapter.wire import v2_pb2 as v2

from .admission import datatype_name
from .core import Admitted, Core
from .failure import TritonFailure
from .http_json import add_parameters, dump, elements, flat, json_values, parse, read_request
from .http_server import ConnectionEnded, HttpRequest, HttpResponse
from .incoming import RawInput, requested_version
from .records import Origin
from .script import Abort, Cut, Fail, Outgoing, Raw, ResetStreams, Send
from .serving import Serving

_JSON = {"Content-Type": "application/json"}
_EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}
_ONE_RESPONSE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various "
    "number of responses"
)


class HttpInfer:
    """The routes that run a model. Only a stream notices that its client has gone; the others run to their end."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def infer(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        header_size = _header_size(request)
        # The server looks the model up before it reads the body.
        serving, _ = self._core.find(model, requested_version(version))
        if serving.is_decoupled:
            raise TritonFailure(
                "UNIMPLEMENTED", "HTTP end point doesn't support models with decoupled transaction policy"
            )
        parsed = parse(request.body[:header_size])
        asked, inputs = read_request(parsed, request.body[header_size:], model)
        asked.model_version = version
        admitted = self._core.submit(asked, origin, streaming=False, inputs=inputs)
        replies: list[Outgoing] = []
        async for step in _outgoing(admitted):
            if isinstance(step, Raw):
                admitted.run.cancel()
                return HttpResponse(200, step.message, _JSON)
            replies.append(step)
        failed = next((step for step in replies if isinstance(step, (Fail, Abort))), None)
        if failed is not None:
            raise TritonFailure(failed.code, failed.text)
        sent = next((step for step in replies if isinstance(step, Send)), Send({}))
        return _infer_response(parsed, admitted, asked, sent)

    async def generate(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        admitted, asked = self._start(request, origin, model, version)
        replies = [step async for step in _outgoing(admitted) if isinstance(step, (Send, Fail, Abort, Raw))]
        if len(replies) != 1:
            return HttpResponse(200, _chunks(dump({"error": _ONE_RESPONSE})), _JSON)
        status, body = _shown(replies[0], admitted, asked)
        return HttpResponse(status, _chunks(body), _JSON)

    async def generate_stream(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        admitted, asked = self._start(request, origin, model, version)
        # Its status says whether the first reply is an error; later ones come with status 200.
        statuses: list[int] = []
        events = _events(admitted, asked, statuses.append)
        return HttpResponse(lambda: statuses[0] if statuses else 200, events, _EVENTS)

    def _start(
        self, request: HttpRequest, origin: Origin, model: str, version: str
    ) -> tuple[Admitted, v2.ModelInferRequest]:
        serving, _ = self._core.find(model, requested_version(version))
        asked, inputs = _generate_request(parse(request.body), serving)
        asked.model_version = version
        return self._core.submit(asked, origin, streaming=True, inputs=inputs), asked


async def _outgoing(admitted: Admitted) -> AsyncIterator[Outgoing]:
    while (step := await admitted.run.out.get()) is not None:
        if isinstance(step, (Cut, ResetStreams)):
            raise ConnectionEnded(reset=not isinstance(step, Cut) or step.reset)
        yield step


async def _events(
    admitted: Admitted, asked: v2.ModelInferRequest, saw_status: Callable[[int], None]
) -> AsyncIterator[bytes]:
    try:
        async for step in _outgoing(admitted):
            if isinstance(step, (Send, Fail, Abort, Raw)):
                status, body = _shown(step, admitted, asked)
                saw_status(status)
                yield body if isinstance(step, Raw) else b"data: " + body + b"\n\n"
    finally:
        admitted.run.cancel()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _shown(step: Outgoing, admitted: Admitted, asked: v2.ModelInferRequest) -> tuple[int, bytes]:
    if isinstance(step, Raw):
        return 200, step.message
    if isinstance(step, Fail):
        return 400, dump({"error": step.text})
    if isinstance(step, Abort):
        return TritonFailure(step.code, step.text).http_status, dump({"error": step.text})
    shown: dict[str, Any] = {"id": asked.id} if asked.id else {}
    shown |= {"model_name": asked.model_name, "model_version": str(admitted.version)}
    if isinstance(step, Send):
        for name, tensor in step.outputs.items():
            values = json_values(tensor)
            shown[name] = values[0] if len(values) == 1 else values
    return 200, dump(dict(sorted(shown.items())))


def _header_size(request: HttpRequest) -> int:
    given = request.headers.get("inference-header-content-length")
    if given is None or not given.isdigit():
        return len(request.body)
    if not 0 < int(given) <= len(request.body):
        raise TritonFailure(
            "INVALID_ARGUMENT",
            f"inference header size should be in range (0, {len(request.body)}), got: {given}",
        )
    return int(given)


def _infer_response(
    parsed: Mapping[str, Any], admitted: Admitted, asked: v2.ModelInferRequest, sent: Send
) -> HttpResponse:
    wanted = {output["name"]: output.get("parameters", {}) for output in parsed.get("outputs", [])}
    all_binary = bool(parsed.get("parameters", {}).get("binary_data_output", False))
    shown: dict[str, Any] = {"id": asked.id} if asked.id else {}
    shown |= {"model_name": asked.model_name, "model_version": str(admitted.version), "outputs": []}
    tail = b""
    for name, tensor in sent.outputs.items():
        if wanted and name not in wanted:
            continue
        output: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if wanted.get(name, {}).get("binary_data", all_binary):
            output["parameters"] = {"binary_data_size": len(tensor.data)}
            tail += bytes(tensor.data)
        else:
            output["data"] = json_values(tensor)
        shown["outputs"].append(output)
    head = dump(shown)
    if not any("parameters" in output for output in shown["outputs"]):
        return HttpResponse(200, head, _JSON)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return HttpResponse(200, head + tail, headers)


def _generate_request(parsed: Mapping[str, Any], serving: Serving) -> tuple[v2.ModelInferRequest, list[RawInput]]:
    """Turn a flat object into tensors where a key names an input, and into request parameters where it does not."""
    request = v2.ModelInferRequest(model_name=serving.name, id=str(parsed.get("id", "")))
    nested = parsed.get("parameters", {})
    if request.id:
        request.parameters["id"].string_param = request.id  # the id is a parameter as well, here only
    rest = {key: value for key, value in parsed.items() if key not in ("id", "parameters")}
    declared = {tensor.name: tensor for tensor in serving.config.input}
    inputs = []
    for key, value in rest.items():
        if key in declared:
            inputs.append(_generate_input(declared[key], value, batched=serving.config.max_batch_size > 0))
    unknown = {key: value for key, value in rest.items() if key not in declared}
    # Here, and only here, the server takes any name.
    add_parameters(request, {key: value for key, value in (unknown | nested).items() if not key.startswith("triton_")})
    return request, inputs


def _generate_input(declared: v2.ModelInput, value: Any, *, batched: bool) -> RawInput:
    values = flat(value)
    datatype = datatype_name(declared.data_type)
    free = [index for index, size in enumerate(declared.dims) if size < 0]
    count, left = divmod(len(values), prod(size for size in declared.dims if size > 0))
    if left or (not free and not batched and count != 1):
        raise TritonFailure(
            "INVALID_ARGUMENT", f"The schema can not convert input '{declared.name}' to tensor with proper shape"
        )
    # What the declared sizes leave over goes into the last free dimension, or else into the batch.
    shape = [max(1, size) for size in declared.dims]
    if free:
        shape[free[-1]] = count
    batch = [1 if free else count] if batched else []
    return RawInput(declared.name, datatype, (*batch, *shape), elements(datatype, values))
