"""What each error of the contract is raised as in a Dynamo worker, as data.

Measured with Dynamo 1.6.1. The KServe frontend makes one gRPC code of nearly all of them, and begins its text with the
class, as in `RateLimited: `; the HTTP frontend maps the class to a status. `WorkerUnavailable` takes this worker out of
the routing for five seconds, so it is raised only when nothing sent here could be served.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One row.

    exception: `HttpError`, or the name of an exception of Dynamo.
    status: what `HttpError` is given; `None` for the others.
    told: the first word of the text that a KServe client reads.
    """

    exception: str
    told: str
    status: int | None = None


_TASK_AT_FAULT = Fault("InvalidArgument", "InvalidRequest")
_BROKEN = Fault("Unknown", "Internal")
_NOBODY = Fault("WorkerUnavailable", "Unavailable")
_FOR_NOW = Fault("HttpError", "Unavailable", 503)

FAULTS: Mapping[str, Fault] = MappingProxyType({
    "invalid_request": _TASK_AT_FAULT,
    "context_length_exceeded": _TASK_AT_FAULT,
    # Dynamo has a class of its own for it, whose text HTTP clients would not see.
    "unsupported": _TASK_AT_FAULT,
    "model_not_found": Fault("HttpError", "NotFound", 404),
    "job_conflict": Fault("HttpError", "Conflict", 409),
    # The engine refuses us, not whoever asked: to them it is a fault of the server.
    "unauthenticated": _BROKEN,
    "permission_denied": _BROKEN,
    "not_ready": _FOR_NOW,
    "overloaded": Fault("HttpError", "RateLimited", 429),
    "engine_failed": _BROKEN,
    "protocol_violation": _BROKEN,
    "connect_failed": _NOBODY,
    "connection_lost": _FOR_NOW,
    "stream_incomplete": _FOR_NOW,
    "deadline_exceeded": Fault("ConnectionTimeout", "DeadlineExceeded"),
    "closed": _NOBODY,
    "adapter_failed": _BROKEN,
    "invalid_configuration": _BROKEN,
    "unknown_adapter": _BROKEN,
    "plugin_broken": _BROKEN,
})  # fmt: skip
CANCELLED = Fault("Cancelled", "Cancelled")


def fault_of(code: str) -> Fault:
    """Return the row of an error's code; a code of a later version of the contract is the server's own fault."""
    return FAULTS.get(code, _BROKEN)
