"""The fake's HTTP face: its routes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.json_form import json_form

from . import describe, repository
from .core import Core
from .failure import TritonFailure
from .http_infer import HttpInfer
from .http_json import dump, parse
from .http_server import HttpRequest, HttpResponse
from .records import Origin

_JSON = {"Content-Type": "application/json"}
_PLAIN = {"Content-Type": "text/plain"}
_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[0-9]+))?"

Route = Callable[[HttpRequest, Origin, str, str], Awaitable[HttpResponse]]


class HttpApi:
    """Answer a request by the route it takes; `calls` of the routes are named as in gRPC where both have them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        infer = HttpInfer(core)
        self._routes: tuple[tuple[re.Pattern[str], str, str, Route], ...] = tuple(
            (re.compile(pattern), method, call, route)
            for pattern, method, call, route in (
                ("/v2", "GET", "ServerMetadata", self._metadata),
                ("/v2/health/live", "GET", "ServerLive", self._live),
                ("/v2/health/ready", "GET", "ServerReady", self._ready),
                ("/v2/models/stats", "GET", "ModelStatistics", self._statistics),
                (_MODEL, "GET", "ModelMetadata", self._model_metadata),
                (f"{_MODEL}/ready", "GET", "ModelReady", self._model_ready),
                (f"{_MODEL}/config", "GET", "ModelConfig", self._model_config),
                (f"{_MODEL}/stats", "GET", "ModelStatistics", self._statistics),
                (f"{_MODEL}/infer", "POST", "ModelInfer", infer.infer),
                (f"{_MODEL}/generate", "POST", "generate", infer.generate),
                (f"{_MODEL}/generate_stream", "POST", "generate_stream", infer.generate_stream),
                ("/v2/repository/index", "POST", "RepositoryIndex", self._index),
                (r"/v2/repository/models/(?P<model>[^/]+)/load", "POST", "RepositoryModelLoad", self._load),
                (r"/v2/repository/models/(?P<model>[^/]+)/unload", "POST", "RepositoryModelUnload", self._unload),
                ("/v2/logging", "GET", "LogSettings", self._log_settings),
                ("/v2/trace/setting", "GET", "TraceSetting", self._trace_settings),
            )
        )

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        is_known = False
        for pattern, method, call, route in self._routes:
            found = pattern.fullmatch(request.path)
            if found is None:
                continue
            is_known = True
            if request.method == method:
                parts = found.groupdict()
                return await self._enter(request, call, route, parts.get("model") or "", parts.get("version") or "")
        if is_known:
            return HttpResponse(405, b'{"error":"Method Not Allowed"}', _PLAIN)
        return HttpResponse(404, b'{"error":"Not Found"}', _PLAIN)

    async def _enter(self, request: HttpRequest, call: str, route: Route, model: str, version: str) -> HttpResponse:
        origin = Origin("http", call, request.headers)
        try:
            self._core.enter(origin, model)
            return await route(request, origin, model, version)
        except TritonFailure as failure:
            status = 403 if failure.code == "PERMISSION_DENIED" else failure.http_status
            return HttpResponse(status, dump({"error": failure.text}), _JSON)

    async def _metadata(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return _json(json_form(describe.server_metadata(self._core)))

    async def _live(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return HttpResponse(200 if self._core.live else 400, b"", _PLAIN)

    async def _ready(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return HttpResponse(200 if self._core.is_ready() else 400, b"", _PLAIN)

    async def _model_ready(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        if self._core.model_is_ready(model, int(version) if version else None):
            return HttpResponse(200, b"", _PLAIN)
        return HttpResponse(400, b'{"error":"Model version not ready"}', _PLAIN)

    async def _model_metadata(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return _json(json_form(describe.model_metadata(self._core, model, version)))

    async def _model_config(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return _json(json_form(describe.model_config(self._core, model, version).config))

    async def _statistics(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return _json(json_form(describe.model_statistics(self._core, model, version)))

    async def _index(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        asked = parse(request.body) if request.body else {}
        index = describe.repository_index(self._core, ready=bool(asked.get("ready", False)))
        return _json([_without_empty(entry) for entry in index.models])

    async def _load(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        asked = parse(request.body) if request.body else {}
        parameters = asked.get("parameters", {})
        with_files = any(key.startswith("file:") for key in parameters)
        repository.load(self._core, model, parameters.get("config"), with_files=with_files)
        return HttpResponse(200, b"", _JSON)

    async def _unload(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        repository.unload(self._core, model)
        return HttpResponse(200, b"", _JSON)

    async def _log_settings(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        return _json(describe.LOG_SETTINGS)

    async def _trace_settings(self, request: HttpRequest, origin: Origin, model: str, version: str) -> HttpResponse:
        levels = describe.TRACE_SETTINGS
        return _json({key: values if key == "trace_level" else values[0] for key, values in levels.items()})


def _json(value: Any) -> HttpResponse:
    return HttpResponse(200, dump(value), _JSON)


def _without_empty(entry: v2.RepositoryIndexResponse.ModelIndex) -> dict[str, str]:
    return {key: value for key, value in json_form(entry).items() if value}
