"""What an engine's status means: one table from code and text to the contract's errors.

Inside a stream Triton sends the text of an error and loses its code, so the text decides wherever it can; the code
decides the rest. Rows are tried from the top; the first that matches wins. Texts are matched case-insensitively.

TLS: a certificate that does not verify (theirs or ours) is `Unauthenticated`; a peer that does not speak TLS at all,
or nothing that gRPC can talk to, is a `ConnectFailed` whose message says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from adapter_api import (
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    ContextLengthExceeded,
    DeadlineExceeded,
    DeadlineStage,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    TransportError,
    Unauthenticated,
    Unsupported,
)
from adapter_kit import foreign_text
from adapter_kit.privacy import without


@dataclass(frozen=True, slots=True)
class Row:
    """`text` is a regular expression to find in the status text, `codes` the gRPC codes it may come with.

    Without `codes` any code will do, none at all included. `advice` is what to do, for people.
    """

    text: str
    error: type[AdapterError]
    advice: str = ""
    codes: frozenset[str] = frozenset()
    retryable: bool | None = None


def _row(
    text: str, error: type[AdapterError], advice: str = "", *codes: str, retryable: bool | None = None
) -> tuple[re.Pattern[str], Row]:
    return re.compile(text, re.IGNORECASE), Row(text, error, advice, frozenset(codes), retryable)


HUNG_UP = (
    "what listens there closes the connection at once: is it a gRPC port, does it want TLS (grpcs://), or a "
    "certificate of ours (`tls.cert_file`)?"
)
"""What to do about a peer that hangs up without a word, for whoever does not know how it was called."""
_UNVERIFIED = r"CERTIFICATE[ _]VERIFY[ _]FAILED"
_DOWN = "start it, or correct the URL"
_ELSEWHERE = "try another replica or again later"

_TABLE: tuple[tuple[re.Pattern[str], Row], ...] = (
    # The connection, as gRPC's own client tells it.
    _row(_UNVERIFIED + r".*has expired", Unauthenticated,
         "the server's certificate, or one that signed it, has ended: renew it; or this machine's clock is wrong"),
    _row(_UNVERIFIED + r".*not yet valid", Unauthenticated,
         "the server's certificate is not valid yet: the clock of this machine, or of the one that made it, is wrong"),
    _row(_UNVERIFIED + r".*revoked", Unauthenticated, "the server's certificate was revoked: it needs a new one"),
    _row(_UNVERIFIED + r".*(too (weak|small|short)|unsupported (certificate )?(purpose|public key)|unsuitable"
         r"|invalid CA|path length|unhandled critical)", Unauthenticated,
         "the server's certificate, or one that signed it, is not made for this: it needs a new one"),
    _row(_UNVERIFIED + r".*self.signed", Unauthenticated,
         "the server's certificate is signed by itself, or its CA is not known here: give that as `tls.ca_file`"),
    _row(_UNVERIFIED, Unauthenticated, "the server's certificate is not signed by anybody `tls.ca_file` trusts"),
    _row(r"Hostname Verification Check failed|peer name .* is not in peer certificate", Unauthenticated,
         "the server's certificate is for another name; set `tls.server_name`"),
    _row(r"alert[ _]certificate[ _]expired", Unauthenticated,
         "our certificate (`tls.cert_file`) has ended: renew it; or the server's clock is wrong"),
    _row(r"certificate[ _]required", Unauthenticated,
         "the server wants a certificate of ours: give `tls.cert_file` and `tls.key_file`"),
    _row(r"bad[ _]certificate|unknown[ _]ca\b|alert[ _]certificate[ _](unknown|revoked)|handshake[ _]failure"
         r"|access[ _]denied", Unauthenticated,
         "the server does not accept our certificate; check `tls.cert_file`, and which CA the server trusts"),
    _row(r"WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST", ConnectFailed,
         "the peer does not speak TLS; write grpc:// if it is plaintext", "UNAVAILABLE"),
    _row(r"http1\.x server|Trying to connect an http1|received http2 header with status|SETTINGS frame"
         r"|connection preface|Failed parsing HTTP/2|frame of (unknown )?type|HTTP/1", ConnectFailed,
         "what answers there is not a gRPC server; Triton's gRPC port is usually 8001"),
    _row(r"failed to connect to all addresses.*(Socket closed|Connection reset)", ConnectFailed, HUNG_UP),
    _row(r"Connection refused", ConnectFailed, f"nothing listens there; {_DOWN}", "UNAVAILABLE"),
    _row(r"DNS resolution failed|Domain name not found|Could not contact DNS|name resolution", ConnectFailed,
         "the host name does not resolve; correct the URL"),
    _row(r"failed to connect to all addresses|No route to host|Network is unreachable|connection attempt timed out"
         r"|connect timed? ?out", ConnectFailed, _DOWN, "UNAVAILABLE"),
    _row(r"Received message larger than max|Sent message larger than max|message length .* exceeds", InvalidRequest,
         "raise `max_message_bytes`"),
    _row(r"metadata size exceeds", InvalidRequest, "a token or a trace context is too large for a header"),
    _row(r"Too many pings|ENHANCE_YOUR_CALM", ConnectionLost, "", "UNAVAILABLE"),
    _row(r"enter idle|Socket closed|Stream removed|GOAWAY|Connection reset|Broken pipe|recvmsg|sendmsg|EOF"
         r"|End of TCP stream|Endpoint closing|Transport closed|connection closed|RST_STREAM|max_age", ConnectionLost,
         "", "UNAVAILABLE", "CANCELLED"),
    # With these codes models quote what happened to connections of their own: only gRPC's own words count.
    _row(r"^(Stream removed|EOF)|RST_STREAM", ConnectionLost, "", "UNKNOWN", "INTERNAL"),
    # Who may call.
    _row(r"(protocol|API) is restricted", PermissionDenied,
         "give the server's restricted-protocol key and value in `restricted_token`"),
    # Coming, going, gone.
    _row(r"has no available versions|is not at ready state", NotReady,
         f"it is loading, unloading or failed to load; {_ELSEWHERE}"),
    _row(r"Server exiting|Server not ready|Server is stopping|shutting down|stopped accepting new", NotReady,
         f"the server is stopping; {_ELSEWHERE}"),
    _row(r"unhealthy vLLM engine", NotReady, f"the engine behind the model died; {_ELSEWHERE}"),
    _row(r"is not healthy", EngineFailed,
         "the model's process died; unload and load the model, or restart the server", retryable=True),
    _row(r"Unable to find shared memory region", NotReady,
         "the server does not know our memory, as after a restart; send the request again"),
    # Too much at once.
    _row(r"Exceeds maximum queue size|Request timeout expired|queue.* is full|too many requests",
         Overloaded, _ELSEWHERE),
    _row(r"CUDA out of memory|CUDA error: out of memory|failed to allocate.*memory", EngineFailed,
         "", retryable=True),
    # Too long for the model: vLLM's and TensorRT-LLM's words for it.
    _row(r"maximum context length|longer than the maximum model length|too long to fit into the model"
         r"|(prompt|input|request|sequence) length.{0,40}(exceeds|longer than|larger than|greater than)"
         r"|should not exceed max_(num_tokens|seq_len|input_len)"
         r"|exceeds? (the )?(max_seq_len|max_input_len|max_model_len)",
         ContextLengthExceeded, "shorten the prompt or ask for fewer tokens"),
    # vLLM's backend, about a sampling parameter that vLLM does not know or does not take.
    _row(r"'NoneType' object has no attribute 'lora_name'", InvalidRequest,
         "vLLM did not take a sampling parameter: one it does not know, or whose value is out of range"),
    # What the request names or lacks.
    _row(r"unknown model|^Unexpected .*ModelNotFound|requested model '.*' is not available|model .* is not found"
         r"|failed to poll from model repository",
         ModelNotFound, "list what there is with `worker-adapter models list`"),
    _row(r"doesn't support models with decoupled transaction policy", Unsupported,
         "the model streams its responses; use `infer_stream`"),
    _row(r"explicit model load / unload is not allowed", Unsupported,
         "start the server with --model-control-mode=explicit", retryable=False),
    _row(r"must specify the START flag|must specify a non-zero or non-empty correlation ID", InvalidRequest,
         "begin the sequence anew, with `start`"),
    _row(r"^load failed for model", EngineFailed, "see the reason, mend the model, load it again", retryable=False),
    _row(r"unexpected (inference )?(input|output)|unexpected shape|data-type is"
         r"|expected (\d+|number of) inputs .{0,40}but got|expected \d+ inputs but got|invalid model version specified"
         r"|batch-size must be <=|expected \d+ (string|bytes?) elements|incomplete string data"
         r"|unable to find data for input|contents field must not be specified|invalid value type for"
         r"|failed to get model version from specified version string|is reserved for Triton", InvalidRequest),
)  # fmt: skip

_BY_CODE: dict[str, Row] = {
    "INVALID_ARGUMENT": Row("", InvalidRequest),
    "OUT_OF_RANGE": Row("", InvalidRequest),
    "NOT_FOUND": Row("", ModelNotFound),
    "ALREADY_EXISTS": Row("", InvalidRequest),
    "FAILED_PRECONDITION": Row("", NotReady),
    "UNIMPLEMENTED": Row("", Unsupported, "this server does not have what was asked for"),
    "UNAUTHENTICATED": Row("", Unauthenticated, "check `bearer_token`"),
    "PERMISSION_DENIED": Row("", PermissionDenied, "check `bearer_token`"),
    "RESOURCE_EXHAUSTED": Row("", Overloaded, _ELSEWHERE),
    "UNAVAILABLE": Row("", NotReady, _ELSEWHERE),
    # Not by us, so by the server: it does that to running calls when it stops.
    "CANCELLED": Row("", NotReady, f"the server cancelled the call; {_ELSEWHERE}"),
    "ABORTED": Row("", EngineFailed, retryable=True),
    "DATA_LOSS": Row("", ConnectionLost),
    "INTERNAL": Row("", EngineFailed),
    "UNKNOWN": Row("", EngineFailed),
}


def find_row(code: str | None, text: str) -> Row:
    """Return the row for a status; `code` is the gRPC name, or `None` for an error inside a stream."""
    # What happened to a connection of the model's own is a failure of the model, not of our way to it.
    inside = code is None or _IN_MODEL.search(text) is not None
    for pattern, row in _TABLE:
        if inside and issubclass(row.error, TransportError | Unauthenticated):
            continue
        if (code is None or not row.codes or code in row.codes) and pattern.search(text):
            return row
    return _BY_CODE.get(code or "", Row("", EngineFailed))


def error_for(
    code: str | None,
    text: str,
    *,
    what: str,
    hide: Iterable[str] = (),
    request_id: str = "",
    stage: DeadlineStage = "total",
    hung_up: str = HUNG_UP,
) -> AdapterError:
    """Return the contract's error for an engine's status.

    Args:
        code: The gRPC code's name; `None` for an error that came inside a stream.
        text: The engine's words.
        what: What it happened to, as in "model 'm' on grpc://h:8001".
        stage: Which deadline it was, should it be one.
        hide: Texts that must not appear in the message: the prompt, above all.
        request_id: What the request was called, which Triton writes before its words; the message names it otherwise.
        hung_up: What to do about a peer that hangs up without a word, which depends on how it was called.
    """
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{what}: no answer within the time for the call", stage=stage)
    hidden = tuple(hide)
    # Without the prompt already here: it must not decide, by quoting an error, what this error is.
    text = without(without_request_id(text, request_id), hidden)
    row = find_row(code, text)
    said = clean(text, hide=hidden) or f"the engine said {code or 'nothing'} without a reason"
    advice = hung_up if row.advice is HUNG_UP else row.advice
    message = f"{what}: {said}" + (f" ({advice})" if advice else "")
    return row.error(message, retryable=row.retryable)


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
