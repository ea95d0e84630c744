"""A refusal or failure as Triton words it."""

from __future__ import annotations

from typing import Final, Literal

Code = Literal[
    "UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE", "UNIMPLEMENTED", "ALREADY_EXISTS",
    "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAUTHENTICATED", "ABORTED",
    "FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS",
]  # fmt: skip
"""A gRPC status by name. Triton itself uses the first eight."""

_HTTP_STATUS: Final = {"INTERNAL": 500, "NOT_FOUND": 404, "UNAVAILABLE": 503, "UNIMPLEMENTED": 501}


class TritonFailure(Exception):
    """What a client is told when a request cannot be served.

    `at_run_time` is true when the model, not the server, says so: on a stream it then names the model and carries the
    final flag.
    """

    def __init__(self, code: Code, text: str, *, at_run_time: bool = False) -> None:
        super().__init__(text)
        self.code: Code = code
        self.text = text
        self.at_run_time = at_run_time

    @property
    def http_status(self) -> int:
        return _HTTP_STATUS.get(self.code, 400)
