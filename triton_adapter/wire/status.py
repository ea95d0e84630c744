"""What an engine's status means: from code and text to the contract's errors, by the table in `texts`.

Inside a stream Triton sends the text of an error and loses its code, so the text decides wherever it can; the code
decides the rest.

TLS: a certificate that does not verify (theirs or ours) is `Unauthenticated`; a peer that does not speak TLS at all,
or nothing that gRPC can talk to, is a `ConnectFailed` whose message says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from adapter_api import AdapterError, DeadlineExceeded, DeadlineStage, EngineFailed, TransportError, Unauthenticated
from adapter_kit import foreign_text
from adapter_kit.privacy import without
from triton_adapter.wire.connection_texts import HUNG_UP
from triton_adapter.wire.text_rows import Row
from triton_adapter.wire.texts import BY_CODE, IN_BAND, TABLE, UNKNOWN_CODE


def find_row(code: str | None, text: str) -> Row:
    """Return the row for a status; `code` is the gRPC name, or `None` for an error inside a stream."""
    # What happened to a connection of the model's own is a failure of the model, not of our way to it.
    inside = code is None or _IN_MODEL.search(text) is not None
    for pattern, row in TABLE:
        if inside and issubclass(row.error, TransportError | Unauthenticated):
            continue
        if (code is None or not row.codes or code in row.codes) and pattern.search(text):
            return row
    return IN_BAND if code is None else BY_CODE.get(code, UNKNOWN_CODE)


def error_for(
    code: str | None,
    text: str,
    *,
    what: str,
    hide: Iterable[str] = (),
    theirs: Iterable[str] = (),
    request_id: str = "",
    stage: DeadlineStage = "total",
    begun: bool = False,
    hung_up: str = HUNG_UP,
) -> AdapterError:
    """Return the contract's error for an engine's status.

    Args:
        code: The gRPC code's name; `None` for an error that came inside a stream.
        text: The engine's words.
        what: What it happened to, as in "model 'm' on grpc://h:8001".
        stage: Which deadline it was, should it be one.
        hide: Texts that must not appear in the message: the prompt, above all.
        theirs: Other texts of the client's that the engine may quote; they may appear, and decide nothing.
        request_id: What the request was called, which Triton writes before its words; the message names it otherwise.
        begun: Whether the engine has shown something of its answer already: then the request was good enough.
        hung_up: What to do about a peer that hangs up without a word, which depends on how it was called.
    """
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{what}: no answer within the time for the call", stage=stage)
    hidden = tuple(hide)
    # Without the prompt already here: it must not decide, by quoting an error, what this error is.
    text = without(without_request_id(text, request_id), hidden)
    row = find_row(code, without(text, theirs))
    said = clean(text, hide=hidden) or f"the engine said {code or 'nothing'} without a reason"
    advice = hung_up if row.advice is HUNG_UP else row.advice
    message = f"{what}: {said}" + (f" ({advice})" if advice else "")
    if begun and row.begun is not None:
        return row.begun(message, retryable=True)
    error = row.error(message, retryable=row.retryable)
    if isinstance(error, EngineFailed):
        error.dead = row.dead
    return error


_STACK = re.compile(r"\s*\n+\s*At:\s*\n.*", re.DOTALL)
_CONNECTING = re.compile(r"failed to connect to all addresses; last error: (?:[A-Z_]+: )?(?:ipv[46]:[^ ]+: )?")
_REQUEST_ID = re.compile(r"\[request id: [^\]]*\]\s*")
_IN_MODEL = re.compile(r"^(\[request id: [^\]]*\] *)?(Failed to process the request\(s\) for model|in ensemble )")


def without_request_id(text: str, request_id: str) -> str:
    """Return an engine's words without the mark of the request that they are about, wherever it stands in them.

    Only who knows the id can tell where it ends: it may hold a bracket.
    """
    return re.sub(rf"\[request id: {re.escape(request_id)}\] *", "", text) if request_id else text


def clean(text: str, *, hide: Iterable[str] = (), request_id: str = "") -> str:
    """Return Triton's words fit for people: as `foreign_text.clean`, and without what only its developers read."""
    hidden = tuple(hide)
    text = without(without_request_id(text, request_id), hidden)
    text = _STACK.sub("", _CONNECTING.sub("", _REQUEST_ID.sub("", text)))
    return foreign_text.clean(text, hide=hidden)
