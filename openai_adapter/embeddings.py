"""Embeddings: an inference of one declared shape.

`input` BYTES [n] are texts, or `input_ids` INT32 or INT64 [n, k] their tokens; `embedding` FP32 [n, d] their vectors.
The parameter `prompt_tokens` of the answer is what the engine counted.
"""

from __future__ import annotations

import array
import base64
import binascii
import re
import sys
from typing import Any

import msgspec

from adapter_api import (
    AdapterError,
    Capability,
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ProtocolViolation,
    Tensor,
    Unsupported,
)
from adapter_kit.http import WholeAnswer
from adapter_kit.retries import Retries
from openai_adapter.engine.engine import Engine
from openai_adapter.server.description import INPUT, INPUT_IDS, OUTPUT
from openai_adapter.wire.errors import error_for, read_body

_OWN = frozenset({"model", "input", "encoding_format"})
_NAMED_AT_MOST = 10
_FORMAT = re.compile(r"encoding_format", re.IGNORECASE)


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


async def infer(engine: Engine, request: InferRequest) -> InferResponse:
    """Return the embeddings of what is in the input; parameters, as `dimensions`, go to the engine as they are.

    Raises:
        InvalidRequest: It has another input, or another datatype or shape, or asks for another output.
        Unsupported: The engine embeds nothing, or the request wants what the API has no words for.
        AdapterError: It failed.
    """
    try:
        texts = _inputs(request)
    except InvalidRequest as exc:
        if engine.learnt(request.model, Capability.TENSORS) or Capability.TENSORS in engine.settings.honours:
            raise
        raise Unsupported(
            f"{engine.what(request.model)} takes no tensors but those of an embedding: {exc.message}"
        ) from exc
    if engine.learnt(request.model, Capability.TENSORS) is False:
        raise Unsupported(f"{engine.what(request.model)} embeds nothing, as it said when it was tried")
    await engine.require_model(request.model)
    fields = {"model": request.model, "input": texts, "encoding_format": "base64", **_parameters(request)}
    if "encoding_format" in engine.refused:
        del fields["encoding_format"]
    engine.in_flight += 1
    try:
        try:
            answer = await _post(engine, request, fields)
        except InvalidRequest as exc:
            if "encoding_format" not in fields or not _FORMAT.search(exc.message):
                raise
            engine.refused |= {"encoding_format"}
            del fields["encoding_format"]
            answer = await _post(engine, request, fields)
    except AdapterError as exc:
        engine.note_failure(exc)
        raise
    finally:
        engine.in_flight -= 1
    engine.learn(request.model, Capability.TENSORS, has=True)
    outputs, counted = _vectors(engine, request, answer, len(texts))
    return InferResponse(
        model=request.model, outputs=(outputs,), request_id=request.request_id, parameters=counted
    )  # fmt: skip


async def _post(engine: Engine, request: InferRequest, fields: dict[str, Any]) -> bytes | bytearray:
    what, settings = engine.what(request.model), engine.settings
    headers = [
        *engine.credentials.headers(), ("Content-Type", "application/json"), ("Accept", "application/json"),
        *request.trace_headers,
    ]  # fmt: skip
    body = msgspec.json.encode(fields)
    timeout_s = request.timeout_s if request.timeout_s is not None else settings.timeout_s
    retries = Retries(settings.max_retries)
    while True:
        try:
            answer = await engine.client.request(
                "POST", f"{engine.address.api}/embeddings", headers=headers, body=body, timeout_s=timeout_s,
                limit=settings.max_message_bytes,
            )  # fmt: skip
            break
        except AdapterError as exc:
            # An embedding changes nothing, but it is an inference: it is sent twice only if it never left.
            if isinstance(exc, DeadlineExceeded) or not await retries.again(exc, unsent_only=True):
                raise
    if answer.status == 200:
        return answer.body
    raise await _refusal(engine, request, answer, what)


async def _refusal(engine: Engine, request: InferRequest, answer: WholeAnswer, what: str) -> AdapterError:
    said = read_body(bytes(answer.body))
    hide = [*engine.credentials.secrets(), *(text for text in _inputs(request) if isinstance(text, str))]
    error = error_for(answer.status, said, what=what, headers=answer.headers, hide=hide, theirs=(request.model,))
    if answer.status in (404, 405) and await engine.lists(request.model):
        error = Unsupported(f"{what}: the engine has no {engine.address.api}/embeddings")
    if isinstance(error, Unsupported):
        engine.learn(request.model, Capability.TENSORS, has=False)
    return error


def _inputs(request: InferRequest) -> list[str] | list[list[int]]:
    """Return the texts of a request, or their tokens."""
    names = [tensor.name for tensor in request.inputs]
    if names not in ([INPUT], [INPUT_IDS]):
        raise InvalidRequest(
            f"an embedding has one input, {INPUT!r} (BYTES [n], texts) or {INPUT_IDS!r} (INT64 [n, k], tokens); the "
            f"request has {', '.join(map(repr, names[:_NAMED_AT_MOST])) or 'none'}"
        )
    tensor = request.inputs[0]
    found = _texts(tensor) if tensor.name == INPUT else _tokens(tensor)
    if not found or not all(found):
        raise InvalidRequest(f"{tensor.name!r} has nothing in it, or an entry that has")
    return found


def _texts(tensor: Tensor) -> list[str]:
    if tensor.datatype != "BYTES" or len(tensor.shape) > 2 or (len(tensor.shape) == 2 and 1 not in tensor.shape):
        raise InvalidRequest(f"{INPUT!r} is BYTES [n], texts, and not {tensor.datatype} {list(tensor.shape)}")
    try:
        return [element.decode() for element in tensor.elements()]
    except UnicodeDecodeError:
        raise InvalidRequest(f"{INPUT!r} holds bytes that are no UTF-8 text") from None


def _tokens(tensor: Tensor) -> list[list[int]]:
    if tensor.datatype not in ("INT32", "INT64") or len(tensor.shape) not in (1, 2):
        raise InvalidRequest(f"{INPUT_IDS!r} is INT64 [n, k], tokens, and not {tensor.datatype} {list(tensor.shape)}")
    rows: list[Any] = tensor.to_numpy().tolist()
    return rows if len(tensor.shape) == 2 else [rows]


def _parameters(request: InferRequest) -> dict[str, Any]:
    if request.model_version:
        raise Unsupported("OpenAI's API knows no versions of a model; leave `model_version` out")
    if request.sequence is not None:
        raise Unsupported("OpenAI's API has no sequences")
    for output in request.outputs:
        if output.name != OUTPUT:
            raise InvalidRequest(f"an embedding has one output, {OUTPUT!r}, and no {output.name!r}")
    for name in request.parameters:
        if name in _OWN:
            raise InvalidRequest(f"the parameter {name!r} is not to be set")
    return dict(request.parameters)


def _vectors(
    engine: Engine, request: InferRequest, body: bytes | bytearray, expected: int
) -> tuple[Tensor, dict[str, int]]:
    """Return the embeddings, and what the engine counted: `prompt_tokens`, if it did."""
    what = engine.what(request.model)
    try:
        decoded = _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ProtocolViolation(f"{what}: the answer is no list of embeddings ({exc})") from exc
    items = decoded.data
    if len(items) != expected:
        raise ProtocolViolation(f"{what}: {len(items)} embeddings for {expected} texts")
    ordered = sorted(enumerate(items), key=lambda pair: pair[0] if pair[1].index is None else pair[1].index)
    try:
        vectors = [_vector(item.embedding) for _, item in ordered]
    except (binascii.Error, ValueError, OverflowError) as exc:
        raise ProtocolViolation(f"{what}: an embedding is neither numbers nor base64 ({exc})") from exc
    size = len(vectors[0])
    if any(len(vector) != size for vector in vectors):
        raise ProtocolViolation(f"{what}: embeddings of different lengths")
    return Tensor(OUTPUT, "FP32", (expected, size // 4), b"".join(vectors)), _counted(decoded.usage)


def _counted(usage: Any) -> dict[str, int]:
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**63:
        return {"prompt_tokens": count}
    return {}


def _vector(embedding: str | list[float]) -> bytes:
    if isinstance(embedding, str):
        data = base64.b64decode(embedding, validate=True)
        if len(data) % 4:
            raise ValueError("its bytes are no 32-bit numbers")
        return data
    numbers = array.array("f", embedding)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
