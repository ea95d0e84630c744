"""The contract between an orchestrator and the engines it sends work to.

    class MyAdapter(WorkerAdapter):            # the one class an author implements
        engine = "mine"
        async def _submit(self, task): ...     # yields Started, Token…, End; raises AdapterError
        async def _health(self, *, canary): ...
        async def _props(self): ...

    async with MyAdapter() as adapter:
        async for event in adapter.submit(TaskRequest(model="m", prompt="Hello")):
            ...

Read `adapter.py` first, then `task.py`, `events.py` and `errors.py`. Importing this package loads no engine library.
"""

from adapter_api.adapter import API_VERSION, WorkerAdapter
from adapter_api.cancel import CancelMode, CancelReceipt
from adapter_api.errors import (
    AccessError,
    AdapterClosed,
    AdapterError,
    AdapterFailed,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    ContextLengthExceeded,
    DeadlineExceeded,
    DeadlineStage,
    EngineFailed,
    InvalidRequest,
    JobConflict,
    ModelNotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    PluginBroken,
    ProtocolViolation,
    StreamIncomplete,
    TaskError,
    TransportError,
    Unauthenticated,
    UnknownAdapter,
    Unsupported,
    WorkerError,
)
from adapter_api.events import (
    Alternative,
    End,
    Error,
    FinishReason,
    Metrics,
    Started,
    Terminal,
    Timings,
    Token,
    TokenEvent,
    Usage,
    decode_event,
    encode_event,
    event_schema,
)
from adapter_api.health import Capacity, HealthReport, HealthState, ModelHealth
from adapter_api.hookspecs import hookimpl
from adapter_api.plugins import PluginHost, PluginReport, PluginStatus, load_plugins
from adapter_api.props import Capability, EngineProps, Finding, ModelProps, TensorSpec
from adapter_api.records import AdapterPlugin, PluginCommand
from adapter_api.stream import TokenStream
from adapter_api.task import (
    ImagePart,
    Message,
    Priority,
    ResponseFormat,
    TaskRequest,
    TextPart,
    Tool,
    ToolCall,
    new_job_id,
)
from adapter_api.tensor_stream import TensorStream
from adapter_api.tensors import Datatype, InferRequest, InferResponse, RequestedOutput, Sequence, Tensor

__all__ = [
    # the adapter
    "API_VERSION", "WorkerAdapter", "TokenStream", "TensorStream", "CancelMode", "CancelReceipt",
    # tasks
    "TaskRequest", "Message", "TextPart", "ImagePart", "Tool", "ToolCall", "ResponseFormat", "Priority", "new_job_id",
    # events
    "TokenEvent", "Started", "Token", "Alternative", "Metrics", "End", "Error", "Terminal", "FinishReason", "Timings",
    "Usage", "decode_event", "encode_event", "event_schema",
    # tensors
    "Datatype", "InferRequest", "InferResponse", "RequestedOutput", "Sequence", "Tensor",
    # health and properties
    "Capability", "Capacity", "EngineProps", "Finding", "HealthReport", "HealthState", "ModelHealth", "ModelProps",
    "TensorSpec",
    # plugins
    "AdapterPlugin", "PluginCommand", "PluginHost", "PluginReport", "PluginStatus", "hookimpl", "load_plugins",
    # errors
    "AccessError", "AdapterClosed", "AdapterError", "AdapterFailed", "ConfigurationError", "ConnectFailed",
    "ConnectionLost", "ContextLengthExceeded", "DeadlineExceeded", "DeadlineStage", "EngineFailed", "InvalidRequest",
    "JobConflict", "ModelNotFound", "NotReady", "Overloaded", "PermissionDenied", "PluginBroken", "ProtocolViolation",
    "StreamIncomplete", "TaskError", "TransportError", "Unauthenticated", "UnknownAdapter", "Unsupported",
    "WorkerError",
]  # fmt: skip
