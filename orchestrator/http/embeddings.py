"""The OpenAI-compatible face: embeddings of texts."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import InvalidRequest, Unsupported
from adapter_api.bounds import MAX_NAME, MAX_TIMEOUT_S
from adapter_api.task import new_job_id
from adapter_kit.openai.formats import is_empty
from adapter_kit.openai.lax import as_meant
from orchestrator.http import bodies
from orchestrator.http.guard import Client
from orchestrator.http.only_model import only_embedder
from orchestrator.http.openai_requests import request_id_of
from orchestrator.http.presence import WhileThere
from orchestrator.http.reading import trace_of
from orchestrator.http.request_ids import sent_with
from orchestrator.http.service import client_of, read_json, service_of
from orchestrator.http.session_header import session
from orchestrator.work.embeddings import EmbeddingAnswer, EmbeddingRequest

router = APIRouter(tags=["OpenAI-compatible"])

MAX_TEXTS = 2048
"""As many as OpenAI takes in a request."""
_PREFIX = "embd-"
_TAKEN = frozenset({"model", "input", "encoding_format", "dimensions", "timeout_s"})
_IGNORED = frozenset({
    "user", "request_id", "safety_identifier", "metadata", "service_tier", "priority", "cache_salt",
})  # fmt: skip
"""Said about the caller, or about how something is done, and not about the answer."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_special_tokens": (True,), "embed_dtype": ("float32",), "endianness": ("native", "little"),
}  # fmt: skip
"""Fields that ask for nothing with these values, beside those that `is_empty` says of every field."""

_REFUSED = frozenset({
    "prompt", "messages", "instruction", "input_type", "prompt_name", "chat_template", "chat_template_kwargs",
    "truncate", "truncate_prompt_tokens", "truncation_side", "embed_dtype", "endianness", "normalize", "use_activation",
    "mm_processor_kwargs", "softmax", "pooling_task", "add_special_tokens",
})  # fmt: skip
"""Fields of other servers' requests that change the vectors."""

Format = Literal["float", "base64"]


class Asked(msgspec.Struct, frozen=True):
    """A request for embeddings."""

    request: EmbeddingRequest
    format: Format
    ignored: tuple[str, ...]
    """Fields that nobody knows."""
    request_id: str | None
    """What the client calls it."""

    def of_model(self, name: str) -> Asked:
        """Return the same, asked of a model."""
        return msgspec.structs.replace(self, request=msgspec.structs.replace(self.request, model=name))


@router.post("/v1/embeddings", openapi_extra=bodies.EMBEDDING)
async def embeddings(request: Request) -> Response:
    """Return embeddings of texts."""
    service, client = service_of(request), client_of(request)
    client.count_request()
    asked = await read_json(request, lambda fields: parse(fields, request.headers))
    if not asked.request.model:
        asked = asked.of_model(only_embedder(request))
    told = service.unknown_fields.headers(asked.ignored)
    client.require_model(asked.request.model)
    found = await _embed_unless_gone(request, asked.request, client)
    if found is None:
        return Response(status_code=499)  # the client is gone; nobody reads this
    size = sum(map(len, found.vectors))
    name = _PREFIX + (sent_with(request) or asked.request_id or new_job_id())
    body = await service.beside(lambda: _body(asked, found, name), size)
    return Response(body, headers=told, media_type="application/json")


def parse(fields: dict[str, Any], headers: Mapping[str, str]) -> Asked:
    """Return what a request asks for; raises `InvalidRequest` or `Unsupported`."""
    fields = as_meant(fields)
    ignored = [
        name for name, value in fields.items() if name not in _TAKEN and name not in _IGNORED and _asks(name, value)
    ]
    if refused := next((name for name in ignored if name in _REFUSED), None):
        raise Unsupported(f"{refused!r} is not supported here; leave it out")
    model = fields.get("model") or ""  # none is the only one there is
    if not isinstance(model, str) or len(model) > MAX_NAME:
        raise InvalidRequest(f"'model' must be a name of at most {MAX_NAME} characters")
    form = fields.get("encoding_format")
    if form not in (None, "float", "base64"):
        raise Unsupported("'encoding_format' must be 'float' or 'base64'")
    dimensions, timeout_s = fields.get("dimensions"), fields.get("timeout_s")
    if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1):
        raise InvalidRequest("'dimensions' must be a whole number above 0")
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (is_number and 0 < timeout_s <= MAX_TIMEOUT_S):
        raise InvalidRequest(f"'timeout_s' must be a number of seconds above 0, {MAX_TIMEOUT_S:.0f} at most")
    request = EmbeddingRequest(
        model=model, texts=_texts(fields.get("input")), dimensions=dimensions, timeout_s=timeout_s,
        session_id=session.get(),
        trace=trace_of(headers),
    )  # fmt: skip
    return Asked(request, form or "float", tuple(ignored), request_id_of(fields))


def _asks(name: str, value: Any) -> bool:
    if value is None or any(type(value) is type(same) and value == same for same in _NEUTRAL.get(name, ())):
        return False
    return name == "add_special_tokens" or not is_empty(value)


def _texts(given: Any) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest("'input' must be a text, or a list of texts with at least one in it")
    if any(isinstance(each, int | list) for each in texts):
        raise Unsupported(
            "'input' holds token ids, which are not supported here: send texts (with langchain's OpenAIEmbeddings say "
            "check_embedding_ctx_length=False)"
        )
    if len(texts) > MAX_TEXTS:
        raise InvalidRequest(f"'input' has {len(texts)} texts; there may be {MAX_TEXTS} in a request")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise InvalidRequest(f"'input' must hold texts that are not empty; number {place} is none")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"'input': text {place} holds half a character (a lone surrogate)") from None
    return tuple(texts)


async def _embed_unless_gone(request: Request, asked: EmbeddingRequest, client: Client) -> EmbeddingAnswer | None:
    def count(inferences: int) -> None:
        client.count_more(inferences - 1, "inferences")  # one was counted before anybody looked at the request

    found: EmbeddingAnswer | None = None
    with WhileThere(request.receive):
        found = await service_of(request).orchestrator.embed(asked, owner=client.name, count=count)
    return found


def _body(asked: Asked, found: EmbeddingAnswer, name: str) -> bytes:
    # One after the other: as objects they would all take several times what their JSON takes.
    data = [
        msgspec.Raw(
            msgspec.json.encode({"object": "embedding", "index": place, "embedding": _encoded(vector, asked.format)})
        )
        for place, vector in enumerate(found.vectors)
    ]
    # Clients read the figures without looking whether there are any: where nobody counted, it says so beside zeros.
    usage: dict[str, Any] = {"prompt_tokens": found.tokens or 0, "total_tokens": found.tokens or 0}
    if found.tokens is None:
        usage["counted"] = False
    return msgspec.json.encode({
        "id": name, "object": "list", "created": int(time.time()), "model": asked.request.model, "data": data,
        "usage": usage,
    })  # fmt: skip


def _encoded(vector: bytes, form: Format) -> str | list[float]:
    return base64.b64encode(vector).decode() if form == "base64" else np.frombuffer(vector, "<f4").tolist()
