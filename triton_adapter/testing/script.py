"""The steps a scripted model takes for one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from adapter_api.tensors import Tensor

from .failure import Code
from .frames import ErrorCode

Ending = Literal["with_last", "separately", "never", "omitted"]
"""Where the final flag is: on the last message; on one of its own that carries nothing else; nowhere, so that the
request never ends; or left out, the request ending all the same."""


@dataclass(frozen=True, slots=True)
class Send:
    """A message with data. `final` is the final flag; `None` leaves it out."""

    outputs: Mapping[str, Tensor] = field(repr=False)
    final: bool | None = False


@dataclass(frozen=True, slots=True)
class Fail:
    """The model answers an error. `final` is the final flag; `None` leaves it out."""

    text: str
    code: Code = "INTERNAL"
    final: bool | None = True


@dataclass(frozen=True, slots=True)
class Finish:
    """A message that carries the final flag and no data; it is only sent to those who asked for it."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The request is over for the server, although no final flag was sent."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The model takes its time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the test calls `FakeModel.release`."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Send nothing more, ever; only a cancel ends it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """The bytes of a message, right or wrong, instead of one made by the server."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Abort:
    """The call ends with this status, as a proxy or an overloaded server ends it. HTTP: the nearest status."""

    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends, with RST or with FIN."""

    reset: bool = True


@dataclass(frozen=True, slots=True)
class ResetStreams:
    """The open HTTP/2 streams of the connection end with RST_STREAM; over HTTP/1 the connection ends."""

    code: int = ErrorCode.INTERNAL_ERROR


@dataclass(frozen=True, slots=True)
class GoAway:
    """GOAWAY on the connection; streams above `last_stream_id` are lost, and none for `None`. Nothing over HTTP/1."""

    code: int = ErrorCode.NO_ERROR
    debug: bytes = b""
    last_stream_id: int | None = None


Outgoing = Send | Fail | Finish | Raw | Abort | Cut | ResetStreams | GoAway
Step = Outgoing | Leave | Wait | Hold | Hang


def ends(step: Step) -> bool:
    """Return whether nothing can come after `step`."""
    if isinstance(step, (Send, Fail)):
        return step.final is True
    return isinstance(step, (Finish, Leave, Abort, Cut, ResetStreams, Hang))
