"""Every control call of the service, with its two messages. Inference has its own way: `request.py`, `reply.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from triton_adapter.wire import v2_pb2 as v2

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

SERVICE = "/inference.GRPCInferenceService/"
"""Where Triton serves: the real path, although our messages are registered under another package."""


@dataclass(frozen=True, slots=True)
class Rpc(Generic[RequestT, ResponseT]):
    """One unary call of the service."""

    name: str
    request: type[RequestT]
    response: type[ResponseT]

    @property
    def path(self) -> str:
        return SERVICE + self.name


SERVER_LIVE = Rpc("ServerLive", v2.ServerLiveRequest, v2.ServerLiveResponse)
SERVER_READY = Rpc("ServerReady", v2.ServerReadyRequest, v2.ServerReadyResponse)
SERVER_METADATA = Rpc("ServerMetadata", v2.ServerMetadataRequest, v2.ServerMetadataResponse)
MODEL_READY = Rpc("ModelReady", v2.ModelReadyRequest, v2.ModelReadyResponse)
MODEL_METADATA = Rpc("ModelMetadata", v2.ModelMetadataRequest, v2.ModelMetadataResponse)
MODEL_CONFIG = Rpc("ModelConfig", v2.ModelConfigRequest, v2.ModelConfigResponse)
MODEL_STATISTICS = Rpc("ModelStatistics", v2.ModelStatisticsRequest, v2.ModelStatisticsResponse)
REPOSITORY_INDEX = Rpc("RepositoryIndex", v2.RepositoryIndexRequest, v2.RepositoryIndexResponse)
MODEL_LOAD = Rpc("RepositoryModelLoad", v2.RepositoryModelLoadRequest, v2.RepositoryModelLoadResponse)
MODEL_UNLOAD = Rpc("RepositoryModelUnload", v2.RepositoryModelUnloadRequest, v2.RepositoryModelUnloadResponse)
SHM_STATUS = Rpc("SystemSharedMemoryStatus", v2.SystemSharedMemoryStatusRequest, v2.SystemSharedMemoryStatusResponse)
SHM_REGISTER = Rpc(
    "SystemSharedMemoryRegister", v2.SystemSharedMemoryRegisterRequest, v2.SystemSharedMemoryRegisterResponse
)
SHM_UNREGISTER = Rpc(
    "SystemSharedMemoryUnregister", v2.SystemSharedMemoryUnregisterRequest, v2.SystemSharedMemoryUnregisterResponse
)
TRACE_SETTING = Rpc("TraceSetting", v2.TraceSettingRequest, v2.TraceSettingResponse)
LOG_SETTINGS = Rpc("LogSettings", v2.LogSettingsRequest, v2.LogSettingsResponse)

MODEL_INFER = SERVICE + "ModelInfer"
MODEL_STREAM_INFER = SERVICE + "ModelStreamInfer"
