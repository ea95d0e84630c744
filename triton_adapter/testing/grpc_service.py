"""The fake's gRPC face: the calls of inference.GRPCInferenceService, and the standard health check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from triton_adapter.wire import v2_pb2 as v2

from . import describe, repository
from .core import Core
from .failure import TritonFailure
from .grpc_infer import InferCalls, origin_of
from .incoming import requested_version
from .relay import Relay

SERVICE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/"
# HealthCheckResponse{status: SERVING} and NOT_SERVING
_SERVING = b"\x08\x01"
_NOT_SERVING = b"\x08\x02"

Control = Callable[[Any], Any]


class GrpcService(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc publishes no types
    """Every method by its path."""

    def __init__(self, core: Core, relay: Relay) -> None:
        self._core = core
        self._infer = InferCalls(core, relay)
        self._controls: dict[str, tuple[Any, Control]] = {
            "ServerLive": (v2.ServerLiveRequest, lambda _: v2.ServerLiveResponse(live=core.live)),
            "ServerReady": (v2.ServerReadyRequest, self._server_ready),
            "ModelReady": (v2.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (v2.ServerMetadataRequest, lambda _: describe.server_metadata(core)),
            "ModelMetadata": (
                v2.ModelMetadataRequest,
                lambda asked: describe.model_metadata(core, asked.name, asked.version),
            ),
            "ModelConfig": (
                v2.ModelConfigRequest,
                lambda asked: describe.model_config(core, asked.name, asked.version),
            ),
            "ModelStatistics": (
                v2.ModelStatisticsRequest,
                lambda asked: describe.model_statistics(core, asked.name, asked.version),
            ),
            "RepositoryIndex": (v2.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (v2.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (v2.RepositoryModelUnloadRequest, self._unload),
            "SystemSharedMemoryStatus": (
                v2.SystemSharedMemoryStatusRequest,
                lambda _: v2.SystemSharedMemoryStatusResponse(),
            ),
            "TraceSetting": (v2.TraceSettingRequest, lambda _: _trace_settings()),
            "LogSettings": (v2.LogSettingsRequest, lambda _: _log_settings()),
        }

    def service(self, handler_call_details: Any) -> Any:
        path: str = handler_call_details.method
        if path == _HEALTH + "Check":
            return grpc.unary_unary_rpc_method_handler(self._control("Check", self._check))
        name = path.removeprefix(SERVICE)
        if name == "ModelInfer":
            return grpc.unary_unary_rpc_method_handler(self._infer.unary, v2.ModelInferRequest.FromString, _serialize)
        if name == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(
                self._infer.stream, v2.ModelInferRequest.FromString, _serialize
            )
        if path == name or name not in self._controls:
            return grpc.unary_unary_rpc_method_handler(_unknown)
        request_type, control = self._controls[name]
        return grpc.unary_unary_rpc_method_handler(self._control(name, control), request_type.FromString, _serialize)

    def _control(self, name: str, control: Control) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            model = getattr(request, "name", "") or getattr(request, "model_name", "")
            try:
                self._core.enter(origin_of(name, context), model)
                response = control(request)
            except TritonFailure as failure:
                await context.abort(grpc.StatusCode[failure.code], failure.text)
            self._infer.written(context)
            return response

        return call

    def _check(self, request: bytes) -> bytes:
        # It follows readiness, whatever service is asked for.
        is_serving = self._core.live and self._core.is_ready() and not self._core.is_draining
        return _SERVING if is_serving else _NOT_SERVING

    def _server_ready(self, request: v2.ServerReadyRequest) -> v2.ServerReadyResponse:
        if self._core.is_draining:
            raise TritonFailure("UNAVAILABLE", "Server exiting")
        return v2.ServerReadyResponse(ready=self._core.is_ready())

    def _model_ready(self, request: v2.ModelReadyRequest) -> v2.ModelReadyResponse:
        if self._core.is_draining:
            raise TritonFailure("UNAVAILABLE", "Server not ready")
        if self._core.refuses_unknown is not None and request.name not in self._core.servings:
            raise TritonFailure(self._core.refuses_unknown, f"Model {request.name} not found")
        return v2.ModelReadyResponse(ready=self._core.model_is_ready(request.name, requested_version(request.version)))

    def _index(self, request: v2.RepositoryIndexRequest) -> v2.RepositoryIndexResponse:
        if request.repository_name:
            raise TritonFailure("UNIMPLEMENTED", "'repository_name' specification is not supported")
        return describe.repository_index(self._core, ready=request.ready)

    def _load(self, request: v2.RepositoryModelLoadRequest) -> v2.RepositoryModelLoadResponse:
        config = request.parameters["config"].string_param if "config" in request.parameters else None
        with_files = any(key.startswith("file:") for key in request.parameters)
        repository.load(self._core, request.model_name, config, with_files=with_files)
        return v2.RepositoryModelLoadResponse()

    def _unload(self, request: v2.RepositoryModelUnloadRequest) -> v2.RepositoryModelUnloadResponse:
        repository.unload(self._core, request.model_name)
        return v2.RepositoryModelUnloadResponse()


async def _unknown(request: bytes, context: Any) -> None:
    # grpc's own answer has a text, Triton's has none.
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


def _serialize(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


def _trace_settings() -> v2.TraceSettingResponse:
    made = v2.TraceSettingResponse()
    for key, values in describe.TRACE_SETTINGS.items():
        made.settings[key].value.extend(values)
    return made


def _log_settings() -> v2.LogSettingsResponse:
    made = v2.LogSettingsResponse()
    for key, value in describe.LOG_SETTINGS.items():
        if isinstance(value, bool):
            made.settings[key].bool_param = value
        elif isinstance(value, int):
            made.settings[key].uint32_param = value
        else:
            made.settings[key].string_param = value
    return made
