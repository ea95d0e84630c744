"""Errors as HTTP answers: one status per code, and a body in the dialect of the face that was asked."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response

from adapter_api import AdapterError, Error

STATUS_OF_CODE = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "unsupported": 400,
    "previous_response_not_found": 400,  # as OpenAI says it
    "model_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "job_conflict": 409,
    "gone": 410,
    "body_too_large": 413,
    "misdirected": 421,
    "headers_too_many": 431,
    # A reload that is refused: what was asked is right, and the settings it would go over to are not.
    "invalid_configuration": 422,
    "unknown_adapter": 422,
    "plugin_broken": 422,
    "overloaded": 429,
    "rate_limited": 429,
    "adapter_failed": 500,
    "internal": 500,
    # The engine does not let *us* in: to the client that is a bad gateway, not a question of its own key.
    "unauthenticated": 502,
    "permission_denied": 502,
    "engine_failed": 502,
    "protocol_violation": 502,
    "connection_lost": 502,
    "stream_incomplete": 502,
    "connect_failed": 503,
    "not_ready": 503,
    "closed": 503,
    "deadline_exceeded": 504,
    # Of the host itself: who asks is not known, or may not.
    "api_key_missing": 401,
    "api_key_unknown": 401,
    "forbidden": 403,
}
"""What a client of the HTTP faces gets for each code, those of `adapter_api.errors` and the host's own."""

_STATUS_IN_V2 = {"unsupported": 501, "engine_failed": 500, "overloaded": 503}
"""Where Triton has another status for the same: its clients know it."""

_OPENAI_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    409: "conflict_error", 429: "rate_limit_error",
}  # fmt: skip


_V2_PROTOCOL = tuple(
    f"/v2/{what}"
    for what in ("models", "health", "repository", "systemsharedmemory", "cudasharedmemory", "trace", "logging")
)
"""Where clients of the v2 protocol ask; also for what is not here, so that they understand that it is not."""


LONGEST_MESSAGE = 2000
RETRY_AFTER_S = 2.0
"""What a client is told to wait when nobody knows better: a replica is looked at about as often."""
LONGEST_RETRY_AFTER_S = 3600
RETRY_SOON = {"Retry-After": f"{RETRY_AFTER_S:.0f}"}


class Refused(Exception):
    """The host itself refuses a request. `code` is a key of `STATUS_OF_CODE`; `untold` is the message of the log, where
    that may say more than the client's."""

    def __init__(
        self, code: str, message: str, *, retry_after_s: float | None = None, untold: str | None = None
    ) -> None:
        super().__init__(message)
        self.untold = untold
        self.error = Error(code=code, message=message, retryable=retry_after_s is not None, retry_after_s=retry_after_s)


def status_of(code: str, path: str = "") -> int:
    """Return the status for a code, at the face that `path` belongs to."""
    found = STATUS_OF_CODE.get(code, 500)
    return _STATUS_IN_V2.get(code, found) if is_v2_protocol(path) else found


def error_of(exc: Exception) -> Error:
    """Return the error that tells `exc`, without a word of anything that is not meant for clients."""
    if isinstance(exc, Refused | AdapterError):
        error = exc.error if isinstance(exc, Refused) else Error.from_exception(exc)
        # It may quote a name that the client made up, of megabytes.
        return error if len(error.message) <= LONGEST_MESSAGE else _shortened(error)
    return Error(code="internal", message="the orchestrator failed at this request; its log says why", retryable=False)


def _shortened(error: Error) -> Error:
    return msgspec.structs.replace(error, message=f"{error.message[:LONGEST_MESSAGE]}…")


def body_of(error: Error, path: str) -> dict[str, Any]:
    """Return the body that tells `error` in the dialect of the face that `path` belongs to."""
    if path.startswith("/v1/"):
        return openai_body(error, path)
    if is_v2_protocol(path):
        return v2_body(error)
    return {"error": msgspec.to_builtins(error)}


def is_v2_protocol(path: str) -> bool:
    """Return whether a path is one where clients of the v2 protocol ask."""
    return path == "/v2" or path.startswith(_V2_PROTOCOL)


def v2_body(error: Error) -> dict[str, Any]:
    return {"error": error.message, "code": error.code}


def openai_body(error: Error, path: str = "") -> dict[str, Any]:
    status = status_of(error.code)
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    param = _param_in(error)
    if param is not None and path.startswith("/v1/responses") and not error.message.startswith("'"):
        param = _PARAM_OF_RESPONSES.get(param.partition(".")[0], param)
    return {"error": {"message": error.message, "type": kind, "param": param, "code": error.code}}


_PARAM_OF_RESPONSES = {"messages": "input", "response_format": "text.format", "logprobs": "top_logprobs"}
"""What asks in a response for what a task, or a model, has by another name: only its own fields are named in quotes."""


_PARAM = re.compile(r"(?:invalid task: )?'([A-Za-z_][\w.]{0,63})'|invalid task: ([A-Za-z_][\w.]{0,63}):")


_LACKING = re.compile(r"""model (?:'[^']*'|"[^"]*") takes no ([a-z_]+)""")
_PARAM_OF_LACKING = {
    "more": "max_tokens", "text": "model", "tensors": "model", "images": "messages", "image_urls": "messages",
    "prompt_token_ids": "prompt", "token_ids": "return_token_ids",
}  # fmt: skip
"""The field that asks for what a model is not capable of, where it has another name; `more` than so many tokens."""


_PARAM_OF_VLLM = re.compile(r"\(parameter=([A-Za-z_][\w.]{0,63})[,)]")
"""Where vLLM tells it, in its server as in others'."""


def _param_in(error: Error) -> str | None:
    """Return the field at fault, which our messages begin with, or which an engine tells."""
    if error.code == "model_not_found":
        return "model"
    if status_of(error.code) != 400:
        return None
    if (found := _PARAM.match(error.message)) is not None:
        return found[1] or found[2]
    if error.code == "unsupported" and (found := _LACKING.match(error.message)) is not None:
        return _PARAM_OF_LACKING.get(found[1], found[1])
    named = _PARAM_OF_VLLM.search(error.message)
    return named and named[1]


def headers_of(error: Error, path: str = "") -> dict[str, str]:
    headers = {}
    wait_s = error.retry_after_s
    status = status_of(error.code, path)
    if wait_s is None and error.retryable and status in (429, 503):
        wait_s = RETRY_AFTER_S
    if wait_s is not None:
        headers["Retry-After"] = str(max(1, min(round(wait_s), LONGEST_RETRY_AFTER_S)))
    if not error.retryable and (status in (408, 409, 429) or status >= 500):
        headers["x-should-retry"] = "false"  # OpenAI's clients try these again by themselves
    if error.code in ("api_key_missing", "api_key_unknown"):
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="worker-adapter"'
    return headers


def answer(connection: HTTPConnection, error: Error) -> Response:
    """Return the answer that tells `error` to whoever asked."""
    path = connection.scope["path"]
    body = msgspec.json.encode(body_of(error, path))
    return Response(body, status_of(error.code, path), headers_of(error, path), "application/json")
