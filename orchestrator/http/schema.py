"""What `/openapi.json` says: which statuses, media types and bodies each route has. Routes say what they take; this is
what they answer, in one place, so that it can be held against what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST

from adapter_api import CancelReceipt, PluginReport, TaskRequest
from adapter_api.docstrings import level_descriptions
from orchestrator.http.guard import OPEN_PATHS
from orchestrator.http.problems import is_v2_protocol
from orchestrator.observability.statistics import ModelStatistics
from orchestrator.pools.fleet import DrainReport, ReloadReport
from orchestrator.pools.status import PoolStatus, TaskStatus
from orchestrator.rollout.report import RolloutReport

_REF = "#/components/schemas/{name}"
_TYPES = (
    TaskStatus, CancelReceipt, PoolStatus, DrainReport, ReloadReport, RolloutReport, PluginReport, ModelStatistics,
)  # fmt: skip

_TOLD = {
    400: "The request is malformed, or asks for what cannot be had; the message names what.",
    401: "An API key is needed and missing, or not known.",
    403: "The key, or the page that sends this, may not do that.",
    404: "There is no such thing here.",
    408: "The body did not arrive in time.",
    409: "A task of that `job_id` was accepted before.",
    410: "The events are no longer kept.",
    413: "The body is too large, or grows too much when it is unpacked.",
    421: "The host is not called by that name.",
    422: "The settings that were to come into force cannot be used.",
    429: "Too much at once, or too much per minute; `Retry-After` says when to come again.",
    431: "Too many headers, or too large ones.",
    500: "The host is at fault; on the v2 protocol's paths also the engine.",
    501: "The engine has no such thing.",
    502: "The engine is at fault, or the way to it.",
    503: "No replica takes this now; `Retry-After` says when to come again.",
    504: "It was not done in its time.",
}
_ALWAYS = frozenset({431, 500})
_GUARDED = frozenset({401, 403, 421})
_WITH_A_BODY = frozenset({400, 408, 413, 429})
_WORK = frozenset({400, 404, 429, 502, 503, 504})
_V2_WORK = _WORK | {501}
_CONFIG = frozenset({404, 500, 501, 502, 503, 504})
_CONTROL = _CONFIG | {400}
_ABSENT = frozenset({501})
_REFUSED = (
    ("post", "/v2/systemsharedmemory/region/{region}/register"),
    ("post", "/v2/cudasharedmemory/region/{region}/register"),
    *((method, path) for method in ("get", "post") for path in (
        "/v2/trace/setting", "/v2/models/{model}/trace/setting", "/v2/logging",
    )),
)  # fmt: skip
"""What Triton has and the host has not: nothing but 501."""
_EMPTY = tuple(
    f"/v2/{kind}sharedmemory/{which}unregister" for kind in ("system", "cuda") for which in ("", "region/{region}/")
)
_LISTS = tuple(
    f"/v2/{kind}sharedmemory/{which}status" for kind in ("system", "cuda") for which in ("", "region/{region}/")
)
_MORE: Mapping[tuple[str, str], frozenset[int]] = {
    ("get", "/v2/tasks/{job_id}"): frozenset({404}),
    ("delete", "/v2/tasks/{job_id}"): frozenset({404}),
    ("get", "/v2/tasks/{job_id}/events"): frozenset({400, 404, 410}),
    ("post", "/v2/tasks"): _WORK | {409},
    ("post", "/v1/chat/completions"): _WORK | {409},
    ("post", "/v1/completions"): _WORK | {409},
    ("post", "/v1/embeddings"): _WORK,
    ("post", "/v1/responses"): _WORK | {409},
    ("get", "/v1/responses/{response_id}"): frozenset({400, 404}),
    ("get", "/v1/responses/{response_id}/input_items"): frozenset({400, 404}),
    ("delete", "/v1/responses/{response_id}"): frozenset({404}),
    ("post", "/v1/responses/{response_id}/cancel"): frozenset({404}),
    ("get", "/v1/models/{model}"): frozenset({404}),
    ("post", "/v1/models/{model}/load"): _CONTROL,
    ("post", "/v1/models/{model}/unload"): _CONTROL,
    ("get", "/v2/models/{model}"): frozenset({404}),
    ("get", "/v2/models/{model}/versions/{version}"): frozenset({404}),
    ("get", "/v2/models/{model}/config"): _CONFIG,
    ("get", "/v2/models/{model}/versions/{version}/config"): _CONFIG,
    ("get", "/v2/models/{model}/ready"): frozenset({404}),
    ("get", "/v2/models/{model}/versions/{version}/ready"): frozenset({404}),
    ("post", "/v2/models/{model}/infer"): _V2_WORK,
    ("post", "/v2/models/{model}/versions/{version}/infer"): _V2_WORK,
    ("post", "/v2/models/{model}/generate"): _V2_WORK,
    ("post", "/v2/models/{model}/versions/{version}/generate"): _V2_WORK,
    ("post", "/v2/models/{model}/generate_stream"): _V2_WORK,
    ("post", "/v2/models/{model}/versions/{version}/generate_stream"): _V2_WORK,
    ("get", "/v2/models/{model}/stats"): frozenset({404}),
    ("get", "/v2/models/{model}/versions/{version}/stats"): frozenset({404}),
    ("post", "/v2/repository/models/{model}/load"): _CONTROL,
    ("post", "/v2/repository/models/{model}/unload"): _CONTROL,
    **{(method, path): _ABSENT for method, path in _REFUSED},
    ("get", "/v2/pools/{pool_id}/health"): frozenset({404}),
    ("post", "/v2/pools/{pool_id}/drain"): frozenset({404}),
    ("post", "/v2/pools/{pool_id}/reload"): frozenset({404, 409, 422, 503}),
}
"""Errors of a route beside those that it shares with others."""

_JSON, _TEXT, _EVENTS, _BYTES = (
    "application/json",
    "text/plain; charset=utf-8",
    "text/event-stream",
    "application/octet-stream",
)
_OBJECT: dict[str, Any] = {"type": "object"}


def _of(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(name=name)}


def _list_of(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "array", "items": dict(item)}}}


_FLAG = {"type": "boolean"}
_MODEL_READY = {
    "type": "object",
    "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": _FLAG},
}
_ANSWERS: Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]] = {
    ("get", "/livez"): {200: {_TEXT: {"type": "string"}}},
    ("get", "/readyz"): {200: {_TEXT: {"type": "string"}}, 503: {_TEXT: {"type": "string"}}},
    ("get", "/metrics"): {200: {CONTENT_TYPE_LATEST: {"type": "string"}}},
    ("get", "/v2/health/live"): {200: {_JSON: _OBJECT}},
    ("get", "/v2/health/ready"): {200: {_JSON: _OBJECT}, 503: {_JSON: _OBJECT}},
    ("get", "/v2/tasks"): {200: {_JSON: _list_of("tasks", _of("TaskStatus"))}},
    ("post", "/v2/tasks"): {200: {_EVENTS: {"type": "string"}}},
    ("get", "/v2/tasks/{job_id}"): {200: {_JSON: _of("TaskStatus")}},
    ("delete", "/v2/tasks/{job_id}"): {200: {_JSON: _of("CancelReceipt")}},
    ("get", "/v2/tasks/{job_id}/events"): {200: {_EVENTS: {"type": "string"}}, 204: {}},
    ("get", "/health"): {200: {_TEXT: {"type": "string"}}, 503: {_TEXT: {"type": "string"}}},
    ("get", "/health/ready"): {200: {_TEXT: {"type": "string"}}, 503: {_TEXT: {"type": "string"}}},
    ("get", "/ping"): {200: {_TEXT: {"type": "string"}}, 503: {_TEXT: {"type": "string"}}},
    ("get", "/version"): {200: {_JSON: _OBJECT}},
    ("get", "/load"): {200: {_JSON: {"type": "object", "properties": {"server_load": {"type": "integer"}}}}},
    ("get", "/v1/models"): {200: {_JSON: _list_of("data", _OBJECT)}},
    ("post", "/v1/models/{model}/load"): {200: {_JSON: _OBJECT}},
    ("post", "/v1/models/{model}/unload"): {200: {_JSON: _OBJECT}},
    ("post", "/v1/chat/completions"): {200: {_JSON: _OBJECT, _EVENTS: {"type": "string"}}},
    ("post", "/v1/completions"): {200: {_JSON: _OBJECT, _EVENTS: {"type": "string"}}},
    ("post", "/v1/responses"): {200: {_JSON: _list_of("output", _OBJECT), _EVENTS: {"type": "string"}}},
    ("get", "/v1/responses/{response_id}"): {200: {_JSON: _list_of("output", _OBJECT)}},
    ("get", "/v1/responses/{response_id}/input_items"): {200: {_JSON: _list_of("data", _OBJECT)}},
    ("post", "/v1/responses/{response_id}/cancel"): {200: {_JSON: _list_of("output", _OBJECT)}},
    ("post", "/v1/embeddings"): {200: {_JSON: _list_of("data", _OBJECT)}},
    ("post", "/v2/repository/index"): {200: {_JSON: {"type": "array", "items": _OBJECT}}},
    ("get", "/v2/models/{model}/ready"): {200: {_JSON: _MODEL_READY}, 503: {_JSON: _MODEL_READY}},
    ("get", "/v2/models/{model}/versions/{version}/ready"): {200: {_JSON: _MODEL_READY}, 503: {_JSON: _MODEL_READY}},
    ("post", "/v2/models/{model}/infer"): {200: {_JSON: _OBJECT, _BYTES: {}}},
    ("post", "/v2/models/{model}/versions/{version}/infer"): {200: {_JSON: _OBJECT, _BYTES: {}}},
    ("post", "/v2/models/{model}/generate_stream"): {200: {_EVENTS: {"type": "string"}}},
    ("post", "/v2/models/{model}/versions/{version}/generate_stream"): {200: {_EVENTS: {"type": "string"}}},
    ("get", "/v2/models/stats"): {200: {_JSON: _list_of("model_stats", _of("ModelStatistics"))}},
    ("get", "/v2/models/{model}/stats"): {200: {_JSON: _list_of("model_stats", _of("ModelStatistics"))}},
    ("get", "/v2/models/{model}/versions/{version}/stats"): {
        200: {_JSON: _list_of("model_stats", _of("ModelStatistics"))}
    },
    ("post", "/v2/repository/models/{model}/load"): {200: {_JSON: {}}},
    ("post", "/v2/repository/models/{model}/unload"): {200: {_JSON: {}}},
    **{("get", path): {200: {_JSON: {"type": "array", "items": _OBJECT}}} for path in _LISTS},
    **{("post", path): {200: {_JSON: {}}} for path in _EMPTY},
    **{each: {} for each in _REFUSED},
    ("get", "/v2/health"): {200: {_JSON: _OBJECT}, 503: {_JSON: _OBJECT}},
    ("get", "/v2/pools"): {200: {_JSON: _list_of("pools", _of("PoolStatus"))}},
    ("get", "/v2/pools/{pool_id}/health"): {200: {_JSON: _of("PoolStatus")}, 503: {_JSON: _of("PoolStatus")}},
    ("post", "/v2/pools/{pool_id}/drain"): {200: {_JSON: _OBJECT}},
    ("post", "/v2/pools/{pool_id}/reload"): {200: {_JSON: _of("ReloadReport")}},
    ("get", "/v2/rollout"): {200: {_JSON: _of("RolloutReport")}},
    ("get", "/v2/meta/capabilities"): {200: {_JSON: _list_of("models", _OBJECT)}},
    ("get", "/v2/plugins"): {200: {_JSON: _list_of("plugins", _of("PluginReport"))}},
}
"""What a route answers when all is well, by status and media type; an object in JSON where nothing is said."""

_ERRORS: Mapping[str, dict[str, Any]] = {
    "TaskError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "retryable"],
                "properties": {
                    "code": {"type": "string"}, "message": {"type": "string"}, "retryable": _FLAG,
                    "retry_after_s": {"type": ["number", "null"]}, "stage": {"type": ["string", "null"]},
                },
            }
        },
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "type"],
                "properties": {
                    "code": {"type": "string"}, "message": {"type": "string"}, "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                },
            }
        },
    },
    "ProtocolError": {
        "type": "object",
        "required": ["error", "code"],
        "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
    },
}  # fmt: skip
"""The bodies of errors, in the dialect of each face; `problems.body_of` makes them."""


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of the routes of `app`."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    task = TaskRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    components.update(task.pop("$defs", {}))
    components["TaskRequest"] = task
    ours = msgspec.json.schema_components(_TYPES, ref_template=_REF)[1]
    level_descriptions(ours)
    components.update(ours)
    components.update(_ERRORS)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["responses"] = _responses(method, path, "requestBody" in operation)
    return document


def _responses(method: str, path: str, has_body: bool) -> dict[str, Any]:
    answers = _ANSWERS.get((method, path), {200: {_JSON: _OBJECT}})
    found: dict[str, Any] = {
        str(status): {
            "description": _TOLD.get(status, "As asked." if status != 204 else "All of it was read before."),
            **({"content": {media: {"schema": dict(schema)} for media, schema in content.items()}} if content else {}),
        }
        for status, content in answers.items()
    }
    errors = _ALWAYS | _MORE.get((method, path), frozenset())
    errors |= frozenset() if path in OPEN_PATHS else _GUARDED
    errors |= _WITH_A_BODY if has_body else frozenset()
    body = {_JSON: {"schema": _of(_error_of(path))}}
    for status in sorted(errors):
        found.setdefault(str(status), {"description": _TOLD[status], "content": body})
    return dict(sorted(found.items()))


def _error_of(path: str) -> str:
    if path.startswith("/v1/"):
        return "OpenAIError"
    return "ProtocolError" if is_v2_protocol(path) else "TaskError"
