"""`generate` and `generate_stream`, as Triton has them: JSON there; JSON, or server-sent events, back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import (
    AdapterError,
    Capability,
    End,
    Error,
    InferRequest,
    InferResponse,
    InvalidRequest,
    Token,
    TokenEvent,
    Unsupported,
)
from orchestrator.config import ServerSettings
from orchestrator.http import bodies
from orchestrator.http.answers import StreamingAnswer, gather
from orchestrator.http.kserve_asked import POST_VERBS, named_by, props_of
from orchestrator.http.kserve_fields import head_of
from orchestrator.http.kserve_flat import flat_of, request_of
from orchestrator.http.kserve_text import flat_text, task_of, text_of_events, version_in
from orchestrator.http.model_paths import Named
from orchestrator.http.presence import WhileThere
from orchestrator.http.problems import answer, v2_body
from orchestrator.http.reading import trace_of
from orchestrator.http.service import client_of, read_body, read_json, service_of, share_of
from orchestrator.http.session_header import session
from orchestrator.http.sse import data_frame

router = APIRouter(tags=["v2 inference protocol"])

_ONE_RESPONSE = "generate gives one response, and the model does not give exactly one: use generate_stream"


@router.post("/v2/models/{model:path}/generate", openapi_extra=bodies.GENERATION)
@router.post("/v2/models/{model:path}/versions/{version}/generate", openapi_extra=bodies.GENERATION)
async def generate(request: Request, model: str, version: str | None = None) -> Response:
    """Run a model on one object of its own inputs, and answer with one of its outputs. Leaving cancels it."""
    return await _generate(request, streamed=False)


@router.post("/v2/models/{model:path}/generate_stream", openapi_extra=bodies.GENERATION)
@router.post("/v2/models/{model:path}/versions/{version}/generate_stream", openapi_extra=bodies.GENERATION)
async def generate_stream(request: Request, model: str, version: str | None = None) -> Response:
    """The same with every response as it comes, in a `data:` frame of its own; the body ends with the last one."""
    return await _generate(request, streamed=True)


async def _generate(request: Request, *, streamed: bool) -> Response:
    service, client = service_of(request), client_of(request)
    named = named_by(request, POST_VERBS)
    client.require_model(named.model)
    props = props_of(request, named) or await service.orchestrator.ask_for_model(named.model)
    client.count_request()
    values = service.settings.limits.max_json_values
    if props is not None and props.inputs and Capability.TENSORS in props.capabilities | props.uncertain:
        specs, batched = props.inputs, bool(props.max_batch_size)
        asked, id = await read_body(
            request,
            lambda body: request_of(
                head_of(body, values), named.model, named.version, specs, batched=batched, values=values
            ),
        )
        return await _on_tensors(request, msgspec.structs.replace(asked, **trace_of(request.headers)), id, streamed)
    if props is not None and not {Capability.TEXT, Capability.MESSAGES} & (props.capabilities | props.uncertain):
        raise Unsupported(
            f"the engine does not tell which inputs model {named.model!r} has: use infer, which names them"
        )
    return await _on_text(request, named, streamed)


# -- tensors ----------------------------------------------------------------------------------------------------------


async def _on_tensors(request: Request, asked: InferRequest, id: str, streamed: bool) -> Response:
    service, client = service_of(request), client_of(request)
    headers = {"X-Job-Id": asked.request_id}
    found = service.orchestrator.model_props(asked.model)
    if found is not None and Capability.TENSOR_STREAM in found[1].capabilities:
        stream = service.orchestrator.infer_stream(asked, owner=client.name, session_id=session.get())
        return await _of_responses(request, stream, stream.aclose, headers, id, streamed)
    once = _once(service.orchestrator.infer(asked, owner=client.name, session_id=session.get()))
    return await _of_responses(request, once, once.aclose, headers, id, streamed)


async def _of_responses(
    request: Request,
    responses: AsyncIterator[InferResponse],
    close: Callable[[], Awaitable[None]],
    headers: dict[str, str],
    id: str,
    streamed: bool,
) -> Response:
    service = service_of(request)
    if streamed:
        return FlatResponses(_batches(responses), close, service.settings, headers, id)
    first = await _the_one(request, responses, close)
    if first is None:
        return Response(status_code=499)  # the client is gone; nobody reads this
    size = sum(len(tensor.data) for tensor in first.outputs)
    encoded = await service.beside(lambda: flat_of(first, id), size)
    return Response(encoded, headers=headers, media_type="application/json")


class FlatResponses(StreamingAnswer):
    """`data:` frames of flat objects. An error before the first one has its own status."""

    starts_at_once = False

    def __init__(
        self,
        batches: AsyncIterator[list[Any]],
        close: Callable[[], Awaitable[None]],
        settings: ServerSettings,
        headers: dict[str, str],
        id: str,
    ) -> None:
        super().__init__(batches, close, settings, headers)
        self._id = id
        self._failed = False

    def encode(self, batch: list[Any]) -> bytes:
        return b"".join(data_frame(self._said(each)) for each in batch if not self._failed)

    def _said(self, item: InferResponse | Error) -> bytes:
        try:
            if isinstance(item, InferResponse):
                return flat_of(item, self._id)
        except AdapterError as exc:  # what came is not what it says it is
            item = Error.from_exception(exc)
        self._failed = True
        return msgspec.json.encode(v2_body(item))

    def refusal(self, error: Error) -> dict[str, Any]:
        return v2_body(error)


async def _once(inferring: Awaitable[InferResponse]) -> AsyncGenerator[InferResponse]:
    yield await inferring


async def _batches(responses: AsyncIterator[InferResponse]) -> AsyncIterator[list[InferResponse | Error]]:
    try:
        async for response in responses:
            yield [response]
    except AdapterError as exc:
        yield [Error.from_exception(exc)]


async def _the_one(
    request: Request, responses: AsyncIterator[InferResponse], close: Callable[[], Awaitable[None]]
) -> InferResponse | None:
    """Return the only response; `None` when the client left before it came."""
    found: list[InferResponse] = []
    is_over = False
    try:
        with WhileThere(request.receive):
            async for response in responses:
                found.append(response)
                if len(found) > 1:
                    break
            is_over = True
    finally:
        with anyio.CancelScope(shield=True):
            await close()
    if is_over and len(found) != 1:
        raise InvalidRequest(_ONE_RESPONSE)
    return found[0] if is_over else None


# -- texts ------------------------------------------------------------------------------------------------------------


async def _on_text(request: Request, named: Named, streamed: bool) -> Response:
    service, client = service_of(request), client_of(request)
    task, id = await read_json(request, lambda fields: task_of(fields, named.model, named.version))
    task = task.model_copy(update=trace_of(request.headers))
    accepted = await service.accept(task, client, share=share_of(request))
    if streamed:
        return FlatTexts(accepted.batches, accepted.close, service.settings, accepted.headers, named.model, id)
    try:
        events = await gather(request.receive, accepted.batches)
    finally:
        await accepted.close()
    terminal = events[-1] if events else None
    if isinstance(terminal, Error):
        return answer(request, terminal)
    if not isinstance(terminal, End):
        return Response(status_code=499)  # the client is gone; nobody reads this
    body = flat_text(named.model, version_in(events), text_of_events(events), id)
    return Response(body, headers=accepted.headers, media_type="application/json")


class FlatTexts(StreamingAnswer):
    """`data:` frames, one for each piece of text. An error before the first one has its own status."""

    starts_at_once = False

    def __init__(
        self,
        batches: AsyncIterator[list[TokenEvent]],
        close: Callable[[], Awaitable[None]],
        settings: ServerSettings,
        headers: dict[str, str],
        model: str,
        id: str,
    ) -> None:
        super().__init__(batches, close, settings, headers)
        self._model = model
        self._version = ""
        self._id = id

    def encode(self, batch: list[TokenEvent]) -> bytes:
        self._version = version_in(batch) or self._version
        frames = []
        for event in batch:
            if isinstance(event, Token):
                frames.append(data_frame(flat_text(self._model, self._version, event.text, self._id)))
            elif isinstance(event, Error):
                frames.append(data_frame(msgspec.json.encode(v2_body(event))))
        return b"".join(frames)

    def refusal(self, error: Error) -> dict[str, Any]:
        return v2_body(error)
