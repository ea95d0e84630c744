"""Every error a task, an adapter or a plugin can end in.

    AdapterError
    ├── TaskError                    the task is at fault: sending it again changes nothing
    │   ├── InvalidRequest           invalid_request            INVALID_ARGUMENT
    │   │   └── ContextLengthExceeded  context_length_exceeded  INVALID_ARGUMENT
    │   ├── ModelNotFound            model_not_found            NOT_FOUND
    │   ├── Unsupported              unsupported                UNIMPLEMENTED
    │   └── JobConflict              job_conflict               ALREADY_EXISTS
    ├── AccessError                  who we are is at fault
    │   ├── Unauthenticated          unauthenticated            UNAUTHENTICATED
    │   └── PermissionDenied         permission_denied          PERMISSION_DENIED
    ├── WorkerError                  the engine behind the adapter is at fault
    │   ├── NotReady                 not_ready                  UNAVAILABLE          retryable
    │   ├── Overloaded               overloaded                 RESOURCE_EXHAUSTED   retryable
    │   ├── EngineFailed             engine_failed              INTERNAL
    │   └── ProtocolViolation        protocol_violation         INTERNAL
    ├── TransportError               the way to the engine is at fault
    │   ├── ConnectFailed            connect_failed             UNAVAILABLE          retryable, provably unsent
    │   ├── ConnectionLost           connection_lost            UNAVAILABLE          retryable
    │   └── StreamIncomplete         stream_incomplete          DATA_LOSS            retryable
    ├── DeadlineExceeded             deadline_exceeded          DEADLINE_EXCEEDED    names the stage
    ├── AdapterClosed                closed                     FAILED_PRECONDITION
    ├── AdapterFailed                adapter_failed             INTERNAL
    └── ConfigurationError           invalid_configuration      INVALID_ARGUMENT
        ├── UnknownAdapter           unknown_adapter            NOT_FOUND
        └── PluginBroken             plugin_broken              FAILED_PRECONDITION

`code` is stable and for programs; `grpc_status` is the google.rpc.Code name it maps to
(https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto); the message is for people.
Cancellation is not an error: a cancelled task ends with `End(finish_reason="cancelled")`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

DeadlineStage = Literal["connect", "queue", "first_token", "inter_token", "total", "health", "control"]


class AdapterError(Exception):
    """Base of all errors of the contract.

    Args:
        message: What happened, to what, and what to do. Never a prompt, a secret or a tensor's contents.
        retryable: Whether the same task may succeed if it is sent again, here later or elsewhere now.
            The class decides unless an adapter knows better.
        retry_after_s: Seconds to wait before that, when the engine said so; `None` when it did not.

    A foreign exception stays reachable as `__cause__`: raise with `from`.
    """

    code: ClassVar[str] = "unknown"
    grpc_status: ClassVar[str] = "UNKNOWN"
    default_retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retryable: bool | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s


class TaskError(AdapterError):
    """The task is at fault; a breaker must not count it against the worker."""


class InvalidRequest(TaskError):
    """The task is malformed, or names something this model cannot take."""

    code = "invalid_request"
    grpc_status = "INVALID_ARGUMENT"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and requested tokens do not fit the model's context."""

    code = "context_length_exceeded"


class ModelNotFound(TaskError):
    """The engine has no model, or no version, of that name."""

    code = "model_not_found"
    grpc_status = "NOT_FOUND"


class Unsupported(TaskError):
    """The adapter, the transport or the model cannot do what the task asks for."""

    code = "unsupported"
    grpc_status = "UNIMPLEMENTED"


class JobConflict(TaskError):
    """A task with this `job_id` is already running."""

    code = "job_conflict"
    grpc_status = "ALREADY_EXISTS"


class AccessError(AdapterError):
    """The engine refuses us; sending the task again as we are changes nothing."""


class Unauthenticated(AccessError):
    """The engine does not know who we are: a credential is missing or wrong, or TLS does not verify."""

    code = "unauthenticated"
    grpc_status = "UNAUTHENTICATED"


class PermissionDenied(AccessError):
    """The engine knows who we are and does not allow this."""

    code = "permission_denied"
    grpc_status = "PERMISSION_DENIED"


class WorkerError(AdapterError):
    """The engine is at fault."""


class NotReady(WorkerError):
    """The engine or the model is starting, loading, draining or unloaded: try elsewhere or later."""

    code = "not_ready"
    grpc_status = "UNAVAILABLE"
    default_retryable = True


class Overloaded(WorkerError):
    """The engine's queue is full, or the task waited in it for too long."""

    code = "overloaded"
    grpc_status = "RESOURCE_EXHAUSTED"
    default_retryable = True


class EngineFailed(WorkerError):
    """The engine took the task and failed at it.

    Retryable when the engine is at fault for certain: hosts send the model's tasks elsewhere from then on.
    """

    code = "engine_failed"
    grpc_status = "INTERNAL"
    dead = False
    """Whether nothing works there before somebody acts; set by adapters that know, for their own report of health."""


class ProtocolViolation(WorkerError):
    """The engine or the adapter said something the protocol does not allow."""

    code = "protocol_violation"
    grpc_status = "INTERNAL"


class TransportError(AdapterError):
    """The way to the engine is at fault."""

    default_retryable = True


class ConnectFailed(TransportError):
    """No connection could be made: the task provably never left."""

    code = "connect_failed"
    grpc_status = "UNAVAILABLE"


class ConnectionLost(TransportError):
    """The connection broke while the task was running; what the engine did with it is not known."""

    code = "connection_lost"
    grpc_status = "UNAVAILABLE"


class StreamIncomplete(TransportError):
    """The stream ended in order, but without saying that the task is done."""

    code = "stream_incomplete"
    grpc_status = "DATA_LOSS"


class DeadlineExceeded(AdapterError):
    """Time ran out; `stage` says for what.

    Retryable unless the task's own total time is used up.
    """

    code = "deadline_exceeded"
    grpc_status = "DEADLINE_EXCEEDED"

    def __init__(
        self,
        message: str,
        *,
        stage: DeadlineStage,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            message, retryable=stage != "total" if retryable is None else retryable, retry_after_s=retry_after_s
        )
        self.stage: DeadlineStage = stage


class AdapterClosed(AdapterError):
    """The adapter is not open: not yet entered with `async with`, or closed already."""

    code = "closed"
    grpc_status = "FAILED_PRECONDITION"


class AdapterFailed(AdapterError):
    """The adapter itself broke: an exception that is not of this tree came out of it. A bug, kept as `__cause__`."""

    code = "adapter_failed"
    grpc_status = "INTERNAL"


class ConfigurationError(AdapterError):
    """A setting is missing, unknown or wrong, or something a setting asks for is not installed."""

    code = "invalid_configuration"
    grpc_status = "INVALID_ARGUMENT"


class UnknownAdapter(ConfigurationError):
    """No plugin provides an adapter of that name."""

    code = "unknown_adapter"
    grpc_status = "NOT_FOUND"


class PluginBroken(ConfigurationError):
    """The plugin that provides the adapter could not be loaded; the message has the reason."""

    code = "plugin_broken"
    grpc_status = "FAILED_PRECONDITION"
