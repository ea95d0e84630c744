"""What an engine's refusal means: from status, body and headers to the contract's errors.

Engines say it in many shapes: an object with `error`, one with `message` and `code`, one with `detail`, a list, a text,
a proxy's page, nothing. What they mean is told by their own type and code first, then by their words, then by the
status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import msgspec

from adapter_api import (
    AdapterError,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    ProtocolViolation,
    Unauthenticated,
    Unsupported,
)
from adapter_kit import foreign_text
from adapter_kit.privacy import without
from openai_adapter.wire.chunks import Chunk

BODY_LIMIT = 65536
"""Bytes of a refusal that are read; the rest is nobody's business."""
_LONGEST_WAIT_S = 86400.0


class Said(msgspec.Struct, frozen=True):
    """What an engine said, whatever the shape: its words, and the type, code and parameter it names."""

    message: str = ""
    kind: str = ""
    code: str = ""
    param: str = ""
    page: bool = False
    """Whether it was a page for people: something stands between us and the engine, or is there in its place."""


def read_body(body: bytes) -> Said:
    """Return what the body of a refusal says."""
    text = body[:BODY_LIMIT].decode(errors="replace").strip()
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
        return Said(title[1].strip() if title else "an HTML page", page=True)
    try:
        return read_object(json.loads(text))
    except (ValueError, RecursionError):
        return Said(text)


def read_object(value: Any) -> Said:
    """Return what a JSON value says, as far as it is an error of a known shape."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return Said("" if value is None else str(value))
    inner = value.get("error")
    if isinstance(inner, dict):
        value = {**value, **inner}
    elif inner is not None and not isinstance(inner, bool):
        value = {**value, "message": value.get("message") or str(inner)}
    message = value.get("message") or value.get("msg") or _detail(value.get("detail"))
    return Said(
        message if isinstance(message, str) else json.dumps(message, ensure_ascii=False, default=str),
        kind=str(value.get("type") or ""),
        code=str(value.get("code") or ""),
        param=str(value.get("param") or ""),
    )


def read_chunk(chunk: Chunk) -> Said:
    """Return what an error in a stream says."""
    return read_object(
        {
            name: value
            for name in ("error", "message", "msg", "detail", "code", "type")
            if (value := getattr(chunk, name)) is not None
        }
    )


def _detail(detail: Any) -> str:
    """Return FastAPI's words: a text, or a list of faults with the places that they are in."""
    if not isinstance(detail, list):
        return "" if detail is None else str(detail)
    faults = []
    for each in detail[:5]:
        if isinstance(each, dict):
            place = each.get("loc")
            where = ".".join(str(step) for step in place if step != "body") if isinstance(place, list) else ""
            faults.append(": ".join(filter(None, (where, str(each.get("msg") or "")))))
        else:
            faults.append(str(each))
    return "; ".join(faults)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the engine asks us to wait: seconds, a date, or OpenAI's milliseconds; `None` if it does not."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1e3
        elif (value := headers.get("retry-after")) is None:
            return None
        elif value.strip().replace(".", "", 1).isdigit():
            seconds = float(value)
        else:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S) if isfinite(seconds) else None


_CONTEXT = re.compile(
    r"maximum context length|context[ _](?:length|size|window)|max_model_len|max_seq_len|max_num_tokens|\bn_ctx\b"
    r"|(?:prompt|input|sequence|request)\b.{0,40}\b(?:too long|too large|exceeds?)\b",
    re.IGNORECASE | re.DOTALL,
)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,80}\b(?:does not exist|not found|is not (?:found|served|available)|doesn't exist)"
    r"|\b(?:unknown|no such|invalid) model\b(?! (?:type|input|output))|\bpinned to\b",
    re.IGNORECASE | re.DOTALL,
)
_UNSUPPORTED = re.compile(
    r"not (?:currently |yet )?(?:supported|implemented|permitted|available for)|unsupported|does not support"
    r"|un(?:recognized|known|expected) (?:request )?(?:arguments?|fields?|parameters?|keys?)"
    r"|is not a multimodal model|at most 0 (?:image|audio|video)|currently available only|no support for"
    r"|requires .{0,40}to be set|can only be used|only .{0,40}supported",
    re.IGNORECASE | re.DOTALL,
)
_BUSY = re.compile(r"overload|too many|capacity|queue|rate.?limit|saturat|\bbusy\b", re.IGNORECASE)
_FULL = re.compile(
    r"exceeds maximum queue size|queue (?:is |was )?full|overloaded|too many requests|rate.?limit(?:ed| exceeded)"
    r"|(?:server|engine|service) (?:is )?busy",
    re.IGNORECASE,
)
"""What a server says that is full and has no status for it."""
_LOADING = re.compile(r"loading|starting|warming|initiali[sz]ing|not ready", re.IGNORECASE)


def error_for(
    status: int | None,
    said: Said,
    *,
    what: str,
    headers: Mapping[str, str] | None = None,
    hide: Iterable[str] = (),
    theirs: Iterable[str] = (),
) -> AdapterError:
    """Return the contract's error for a refusal.

    Args:
        status: The HTTP status; `None` for an error inside a stream, whose own code is then taken for one.
        said: What the engine said.
        what: What it happened to, as in "model 'm' on http://h:8000".
        headers: The answer's, by names in lower case.
        hide: Texts that must not appear in the message: prompts and credentials.
        theirs: Other texts of the client's that the engine may quote; they may appear, and decide nothing.
    """
    hidden = tuple(hide)
    # Without the prompt already here: it must not decide, by quoting an error, what this error is.
    text = without(said.message, hidden)
    words = without(text, theirs)
    if status is None:
        status = int(said.code) if said.code.isdigit() and 400 <= int(said.code) < 600 else 500
    clean = foreign_text.clean(text, hide=hidden) or (f"it answers {status} without a word")
    wait_s = retry_after_s(headers or {})
    if (at_fault := _field_in(said.param)) and f"parameter={at_fault}" not in clean:
        clean = f"{clean} (parameter={at_fault})"

    def made(kind: type[AdapterError], advice: str = "", **fields: Any) -> AdapterError:
        return kind(f"{what}: {clean}" + (f" ({advice})" if advice else ""), **fields)

    if said.page and status < 500:
        return made(
            ProtocolViolation, f"status {status}, a page for people: another server, or a proxy, is at this address"
        )
    return _by_words(status, said, words, made) or _by_status(status, said, words, made, wait_s)


def _field_in(param: str) -> str:
    """Return the name of the field that an engine finds at fault; empty where it names none."""
    name = param.removeprefix("body.")
    return name if re.fullmatch(r"[A-Za-z_][\w.]{0,63}", name) else ""


def _by_words(status: int, said: Said, words: str, made: Any) -> AdapterError | None:
    names = f"{said.kind} {said.code}".lower()
    if status in (401, 403, 407, 429) or status in (502, 503, 504):
        return None
    if "context" in names or said.param == "input_tokens" or (status < 500 and _CONTEXT.search(words)):
        error: AdapterError = made(
            ContextLengthExceeded, "shorten the prompt or lower `max_tokens`, or serve the model with a longer context"
        )
        return error
    if "model_not_found" in names or (status < 500 and _NO_MODEL.search(words)):
        error = made(ModelNotFound, "GET /v1/models lists those there are")
        return error
    if "not_supported" in names or "unsupported" in names or status in (405, 501) or _UNSUPPORTED.search(words):
        error = made(Unsupported)
        return error
    return None


def _by_status(status: int, said: Said, words: str, made: Any, wait_s: float | None) -> AdapterError:
    names = f"{said.kind} {said.code}".lower()
    error: AdapterError
    if status == 401:
        error = made(Unauthenticated, "give `api_key` or `api_key_file`, or another one")
    elif status == 407:
        error = made(Unauthenticated, "the proxy in between wants credentials: set `proxy`")
    elif status in (402, 403) or "insufficient_quota" in names:
        error = made(PermissionDenied)
    elif status == 404:
        # Nobody says whether it was the path or the model: who calls knows what the engine lists.
        error = made(ModelNotFound, "GET /v1/models lists those there are")
    elif status in (408, 504):
        error = made(DeadlineExceeded, "a gateway waited too long for the engine", stage="first_token")
    elif (
        status in (429, 529)
        or (status == 503 and _BUSY.search(words) and not _LOADING.search(words))
        or (status == 500 and _FULL.search(words))
    ):
        error = made(Overloaded, retry_after_s=wait_s)
    elif status in (502, 503):
        error = made(NotReady, retry_after_s=wait_s)
    elif 300 <= status < 400:
        error = made(ProtocolViolation, f"it redirects ({status}) to another server; give that one's URL")
    elif status >= 500:
        error = made(EngineFailed)
    elif status < 300:
        error = made(ProtocolViolation, f"status {status}, and no answer that a client of OpenAI's API could read")
    else:
        error = made(InvalidRequest)
    return error
