"""The contract between an orchestrator and the engines it sends work to.

    class MyAdapter(WorkerAdapter):            # the one class an author implements
        engine = "mine"
        async def _submit(self, task): ...     # yields Started, Token…, End; raises AdapterError
        async def _health(self, *, canary): ...
        async def _props(self): ...

    async with MyAdapter() as adapter:
        async for event in adapter.submit(TaskRequest(model="m", prompt="Hello")):
            ...

Read `adapter.py` first, then `task.py`, `events.py` and `errors.py`. Importing this package loads no engine library nor
any other: each name is fetched from its module when it is first asked for, so that whoever only lists plugins need not
wait for what runs tasks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_api.adapter import WorkerAdapter
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
        Output,
        PromptLogprobs,
        PromptToken,
        Reasoning,
        Started,
        Terminal,
        Timings,
        Token,
        TokenEvent,
        TokenIds,
        ToolCallDelta,
        UnknownEvent,
        Usage,
        decode_event,
        encode_event,
        event_schema,
        event_type,
    )
    from adapter_api.health import Capacity, HealthReport, HealthState, ModelHealth
    from adapter_api.hookspecs import hookimpl
    from adapter_api.judgement import JUDGEMENTS, Culprit, Judgement, judge
    from adapter_api.plugins import PluginHost, PluginReport, PluginStatus, load_plugins
    from adapter_api.props import Capability, EngineProps, Finding, ModelProps, TensorSpec
    from adapter_api.records import API_VERSION, AdapterPlugin, PluginCommand
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
    from adapter_api.tool_calls import gather_tool_calls

__all__ = [
    # the adapter
    "API_VERSION", "WorkerAdapter", "TokenStream", "TensorStream", "CancelMode", "CancelReceipt",
    # tasks
    "TaskRequest", "Message", "TextPart", "ImagePart", "Tool", "ToolCall", "ResponseFormat", "Priority", "new_job_id",
    # events
    "TokenEvent", "Started", "Token", "Alternative", "Reasoning", "ToolCallDelta", "TokenIds", "PromptLogprobs",
    "PromptToken", "Metrics", "End", "Error", "Output", "Terminal", "FinishReason", "Timings", "Usage", "UnknownEvent",
    "decode_event", "encode_event", "event_schema", "event_type", "gather_tool_calls",
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
    # whom an error condemns
    "JUDGEMENTS", "Culprit", "Judgement", "judge",
]  # fmt: skip

_HOMES = {
    "adapter": ("WorkerAdapter",),
    "cancel": ("CancelMode", "CancelReceipt"),
    "errors": (
        "AccessError", "AdapterClosed", "AdapterError", "AdapterFailed", "ConfigurationError", "ConnectFailed",
        "ConnectionLost", "ContextLengthExceeded", "DeadlineExceeded", "DeadlineStage", "EngineFailed",
        "InvalidRequest", "JobConflict", "ModelNotFound", "NotReady", "Overloaded", "PermissionDenied", "PluginBroken",
        "ProtocolViolation", "StreamIncomplete", "TaskError", "TransportError", "Unauthenticated", "UnknownAdapter",
        "Unsupported", "WorkerError",
    ),
    "events": (
        "Alternative", "End", "Error", "FinishReason", "Metrics", "Output", "PromptLogprobs", "PromptToken",
        "Reasoning", "Started", "Terminal", "Timings", "Token", "TokenEvent", "TokenIds", "ToolCallDelta",
        "UnknownEvent", "Usage", "decode_event", "encode_event", "event_schema", "event_type",
    ),
    "health": ("Capacity", "HealthReport", "HealthState", "ModelHealth"),
    "hookspecs": ("hookimpl",),
    "judgement": ("JUDGEMENTS", "Culprit", "Judgement", "judge"),
    "plugins": ("PluginHost", "PluginReport", "PluginStatus", "load_plugins"),
    "props": ("Capability", "EngineProps", "Finding", "ModelProps", "TensorSpec"),
    "records": ("API_VERSION", "AdapterPlugin", "PluginCommand"),
    "stream": ("TokenStream",),
    "task": (
        "ImagePart", "Message", "Priority", "ResponseFormat", "TaskRequest", "TextPart", "Tool", "ToolCall",
        "new_job_id",
    ),
    "tensor_stream": ("TensorStream",),
    "tensors": ("Datatype", "InferRequest", "InferResponse", "RequestedOutput", "Sequence", "Tensor"),
    "tool_calls": ("gather_tool_calls",),
}  # fmt: skip
"""Where each name is at home."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # with it, a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _HOMES:  # `import adapter_api; adapter_api.errors` has always worked
            return import_module(f"adapter_api.{name}")
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"adapter_api.{_HOME_OF[name]}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *__all__})
