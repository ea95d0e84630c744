"""The table of engines' texts: what each means, and which release was seen to say it. Data; `status` reads it.

Rows are tried from the top; the first that matches wins. Texts are matched case-insensitively. `said` holds at least
one text per row as an engine puts it, with the release and where that is known from: "seen" is a run of that release
here, anything else is where it was read. Tests send each of them through a server.

A row for a text is worth more than a guess. What no row knows is judged so that nobody is wronged:

- With a code, by the code. An INTERNAL that nobody knows is the engine's failure at this task, and is not retryable.
- Inside a stream, where Triton loses the code, it is the engine's failure at this task, and retryable: nothing says
  that the client may not try again. It condemns neither replica nor model at the adapter, and at a host at most this
  model at this replica, for a moment, while another replica can take its tasks.
- Behind `Error generating stream:` (vLLM's backend) and `Error generating request:` (TensorRT-LLM's LLM API), which put
  every refusal so and without a code, it is the request's fault before the first token: that is where requests are
  refused. Afterwards the request was good enough to begin with, and it is the engine's failure as above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from adapter_api import (
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unsupported,
)


class Said(NamedTuple):
    """A text as an engine says it, the release that does, and how we know."""

    text: str
    release: str
    source: str = "seen"


@dataclass(frozen=True, slots=True)
class Row:
    """`text` is a regular expression to find in the status text, `codes` the gRPC codes it may come with.

    Without `codes` any code will do, none at all included. `advice` is what to do, for people. `dead` says that nothing
    will work there before somebody acts. `begun` is what it is once a token was shown, when that is another matter.
    """

    text: str
    error: type[AdapterError]
    advice: str = ""
    codes: frozenset[str] = frozenset()
    retryable: bool | None = None
    dead: bool = False
    begun: type[AdapterError] | None = None
    said: tuple[Said, ...] = ()


Compiled = tuple[re.Pattern[str], Row]


def _row(
    text: str,
    error: type[AdapterError],
    advice: str = "",
    *codes: str,
    retryable: bool | None = None,
    dead: bool = False,
    begun: type[AdapterError] | None = None,
    said: tuple[Said, ...],
) -> Compiled:
    row = Row(text, error, advice, frozenset(codes), retryable, dead, begun, said)
    return re.compile(text, re.IGNORECASE | re.DOTALL), row


def _grpc(*texts: str) -> tuple[Said, ...]:
    return tuple(Said(text, "grpcio 1.85") for text in texts)


def _triton(*texts: str) -> tuple[Said, ...]:
    return tuple(Said(text, "Triton 2.51") for text in texts)


def _vllm(*texts: str, release: str = "vLLM 0.13 in Triton's backend 26.01") -> tuple[Said, ...]:
    return tuple(Said(f"Error generating stream: {text}", release) for text in texts)


_DOWN = "start it, or correct the URL"
_ELSEWHERE = "try another replica or again later"
_RELOAD = "unload and load the model (`worker-adapter models unload`, then `load`), or restart the server"
HUNG_UP = (
    "what listens there closes the connection at once: is it a gRPC port, does it want TLS (grpcs://), or a "
    "certificate of ours (`tls.cert_file`)?"
)
"""What to do about a peer that hangs up without a word, for whoever does not know how it was called."""
_UNVERIFIED = r"CERTIFICATE[ _]VERIFY[ _]FAILED"
_FIRST = "failed to connect to all addresses; last error: "
_TLS = f"{_FIRST}UNKNOWN: Ssl handshake failed: SSL_ERROR_SSL: error:1000: SSL routines:OPENSSL_internal:"


def _dynamo(word: str, error: type[AdapterError], advice: str, *texts: str) -> Compiled:
    """Return the row for a class of Dynamo's: the first word of the text, after what its face was doing.

    The code is INTERNAL whatever a worker raised.
    """
    said = tuple(Said(text, "Dynamo 1.6.1") for text in texts)
    return _row(rf"^(Failed to [a-z ]+ stream: )?{word}: ", error, advice, said=said)


_DYNAMO = (
    _dynamo("InvalidRequest", InvalidRequest, "",
            "Failed to fold completions stream: InvalidRequest: ValueError: no such voice"),
    _dynamo("RateLimited", Overloaded, _ELSEWHERE, 'RateLimited: {"message":"slow down","code":429}'),
    _dynamo("Unavailable", NotReady, f"Dynamo lost the worker; {_ELSEWHERE}",
            "Failed to fold completions stream: Unavailable: Stream ended before generation completed",
            "Failed to generate tensor response stream: Unavailable: TCP connection to 127.0.0.1:4321 failed"),
    _dynamo("Cancelled", NotReady, f"the worker cancelled the request; {_ELSEWHERE}", "Cancelled: told to stop"),
    _dynamo("DeadlineExceeded", EngineFailed, "the worker's own time ran out",
            "DeadlineExceeded: TimeoutError: the worker gave up"),
    _dynamo("Internal", EngineFailed, "the worker failed; its log has the reason", "Internal: RuntimeError: boom"),
)  # fmt: skip

TABLE: tuple[Compiled, ...] = (
    *_DYNAMO,
    # The connection, as gRPC's own client tells it.
    _row(_UNVERIFIED + r".*has expired", Unauthenticated,
         "the server's certificate, or one that signed it, has ended: renew it; or this machine's clock is wrong",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: certificate has expired")),
    _row(_UNVERIFIED + r".*not yet valid", Unauthenticated,
         "the server's certificate is not valid yet: the clock of this machine, or of the one that made it, is wrong",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: certificate is not yet valid")),
    _row(_UNVERIFIED + r".*revoked", Unauthenticated, "the server's certificate was revoked: it needs a new one",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: certificate revoked")),
    _row(_UNVERIFIED + r".*(too (weak|small|short)|unsupported (certificate )?(purpose|public key)|unsuitable"
         r"|invalid CA|path length|unhandled critical)", Unauthenticated,
         "the server's certificate, or one that signed it, is not made for this: it needs a new one",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: unsupported certificate purpose")),
    _row(_UNVERIFIED + r".*self.signed", Unauthenticated,
         "the server's certificate is signed by itself, or its CA is not known here: give that as `tls.ca_file`",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: self signed certificate")),
    _row(_UNVERIFIED, Unauthenticated, "the server's certificate is not signed by anybody `tls.ca_file` trusts",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED")),
    _row(r"Hostname Verification Check failed|peer name .* is not in peer certificate", Unauthenticated,
         "the server's certificate is for another name; set `tls.server_name`",
         said=_grpc(f"{_FIRST}UNKNOWN: Hostname Verification Check failed.")),
    _row(r"alert[ _]certificate[ _]expired", Unauthenticated,
         "our certificate (`tls.cert_file`) has ended: renew it; or the server's clock is wrong",
         said=_grpc(f"{_TLS}SSLV3_ALERT_CERTIFICATE_EXPIRED")),
    _row(r"certificate[ _]required", Unauthenticated,
         "the server wants a certificate of ours: give `tls.cert_file` and `tls.key_file`",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: tlsv13 alert certificate required")),
    _row(r"bad[ _]certificate|unknown[ _]ca\b|alert[ _]certificate[ _](unknown|revoked)|handshake[ _]failure"
         r"|access[ _]denied", Unauthenticated,
         "the server does not accept our certificate; check `tls.cert_file`, and which CA the server trusts",
         said=_grpc(f"{_TLS}TLSV1_ALERT_UNKNOWN_CA")),
    _row(r"WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST", ConnectFailed,
         "the peer does not speak TLS; write grpc:// if it is plaintext", "UNAVAILABLE",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: Ssl handshake failed: WRONG_VERSION_NUMBER")),
    _row(r"http1\.x server|Trying to connect an http1|received http2 header with status|SETTINGS frame"
         r"|connection preface|Failed parsing HTTP/2|frame of (unknown )?type|HTTP/1", ConnectFailed,
         "what answers there is not a gRPC server; Triton's gRPC port is usually 8001",
         said=_grpc(f"{_FIRST}UNAVAILABLE: ipv4:127.0.0.1:80: Trying to connect an http1.x server")),
    _row(r"failed to connect to all addresses.*(Socket closed|Connection reset)", ConnectFailed,
         HUNG_UP,
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: Socket closed")),
    _row(r"Connection refused", ConnectFailed, f"nothing listens there; {_DOWN}", "UNAVAILABLE",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused")),
    _row(r"DNS resolution failed|Domain name not found|Could not contact DNS|name resolution", ConnectFailed,
         "the host name does not resolve; correct the URL", said=_grpc("DNS resolution failed for nohost:1")),
    _row(r"failed to connect to all addresses|No route to host|Network is unreachable|connection attempt timed out"
         r"|connect timed? ?out", ConnectFailed, _DOWN, "UNAVAILABLE",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: No route to host")),
    _row(r"Received message larger than max|Sent message larger than max|message length .* exceeds", InvalidRequest,
         "raise `max_message_bytes`", said=_grpc("CLIENT: Received message larger than max (5242924 vs. 4194304)")),
    _row(r"metadata size exceeds", InvalidRequest, "a token or a trace context is too large for a header",
         said=_grpc("received metadata size exceeds hard limit (9000 vs. 8192)")),
    _row(r"Too many pings|ENHANCE_YOUR_CALM", ConnectionLost, "", "UNAVAILABLE", said=_grpc("Too many pings")),
    _row(r"enter idle|Socket closed|Stream removed|GOAWAY|Connection reset|Broken pipe|recvmsg|sendmsg|EOF"
         r"|End of TCP stream|Endpoint closing|Transport closed|connection closed|RST_STREAM|max_age", ConnectionLost,
         "", "UNAVAILABLE", "CANCELLED", said=_grpc("Stream removed (Socket closed)", "enter idle", "GOAWAY received")),
    # With these codes models quote what happened to connections of their own: only gRPC's own words count.
    _row(r"^(Stream removed|EOF)|RST_STREAM", ConnectionLost, "", "UNKNOWN", "INTERNAL",
         said=_grpc("Stream removed (RST_STREAM (Received RST_STREAM with error code 2))")),
    # Who may call.
    _row(r"(protocol|API) is restricted", PermissionDenied,
         "give the server's restricted-protocol key and value in `restricted_token`",
         said=_triton("This protocol is restricted, expecting header 'triton-grpc-protocol-key'")),
    # Coming, going, gone.
    _row(r"has no available versions|is not at ready state", NotReady,
         f"it is loading, unloading or failed to load; {_ELSEWHERE}",
         said=_triton("Request for unknown model: 'm' has no available versions")),
    _row(r"Server exiting|Server not ready|Server is stopping|shutting down|stopped accepting new", NotReady,
         f"the server is stopping; {_ELSEWHERE}",
         said=(Said("Server exiting", "Triton 2.51"),
               Said("GRPC server is shutting down and has stopped accepting new requests.", "Triton 2.58", "server"))),
    _row(r"unhealthy vLLM engine", NotReady, f"the engine behind the model died; {_ELSEWHERE}",
         said=(Said("Model is unavailable due to unhealthy vLLM engine", "backend 24.12", "vllm_backend"),)),
    _row(r"EngineCore encountered an issue|EngineDead|engine (process |core )?(is |has )?(dead|died)"
         r"|background loop (has errored|is not running)", EngineFailed,
         f"the engine behind the model died; {_RELOAD}", retryable=True, dead=True,
         said=(*_vllm("EngineCore encountered an issue. See stack trace (above) for the root cause."),
               *_vllm("Background loop has errored already.", release="vLLM 0.5 in Triton's backend 24.10"))),
    _row(r"is not healthy", EngineFailed,
         "the model's process died; unload and load the model, or restart the server", retryable=True, dead=True,
         said=_triton("Stub process 'm_0_0' is not healthy.")),
    _row(r"Unable to find shared memory region", NotReady,
         "the server does not know our memory, as after a restart; send the request again",
         said=_triton("Unable to find shared memory region: 'worker-adapter-7-abc'")),
    # Too much at once.
    _row(r"Exceeds maximum queue size|Request timeout expired|queue.* is full|too many requests",
         Overloaded, _ELSEWHERE, said=_triton("Exceeds maximum queue size", "Request timeout expired")),
    _row(r"out of memory|OutOfMemory|failed to allocate.*memory|(memory|bad)[ _]alloc(ation)?\b.{0,20}(fail|error)"
         r"|std::bad_alloc", EngineFailed,
         f"it may pass when less is asked of the engine at once; if it stays, {_RELOAD}", retryable=True,
         said=(*_vllm("CUDA out of memory. Tried to allocate 2.00 GiB."),
               Said("failed to allocate pinned system memory", "Triton 2.51", "core"))),
    _row(r"CUDA error|CUDA driver error|cudaError|CUBLAS_STATUS|CUDNN_STATUS|NCCL error|illegal memory access"
         r"|device-side assert", EngineFailed,
         f"what a GPU did wrong stays wrong in the process; {_RELOAD}", retryable=True, dead=True,
         said=(*_vllm("CUDA error: an illegal memory access was encountered"),
               Said("CUDA error: device-side assert triggered", "any PyTorch", "pytorch"))),
    # Too long for the model: vLLM's and TensorRT-LLM's words for it.
    _row(r"maximum context length|longer than the maximum model length|too long to fit into the model"
         r"|(prompt|input|request|sequence) length.{0,40}(exceeds|longer than|larger than|greater than)"
         r"|should not exceed max_(num_tokens|seq_len|input_len)"
         r"|exceeds? (the )?(max_seq_len|max_input_len|max_model_len)",
         ContextLengthExceeded, "shorten the prompt or ask for fewer tokens",
         said=(*_vllm("This model's maximum context length is 2048 tokens. However, you requested 4000"),
               Said("Prompt length (5056) exceeds maximum sequence length (2048)", "TensorRT-LLM 0.16",
                    "tensorrtllm_backend"))),
    # vLLM's backend, about what the request asks for. It says every refusal in this way, and loses every code.
    _row(r"'NoneType' object has no attribute 'lora_name'", InvalidRequest,
         "vLLM did not take a sampling parameter: one it does not know, or whose value is out of range",
         said=_vllm("'NoneType' object has no attribute 'lora_name'", release="Triton's backend 25.01")),
    _row(r"unexpected keyword argument '?(structured_outputs|guided_decoding)", Unsupported,
         "`response_format` goes under another name in this release of the backend, or not at all: up to 24.12 it has "
         "no constraints, up to 25.10 they are `guided_decoding`, then `structured_outputs`; say which in the "
         "adapter's setting `models.<name>.inputs.response_format`",
         said=_vllm("Unexpected keyword argument 'structured_outputs'", release="Triton's backend 24.12")),
    _row(r"unexpected keyword argument", InvalidRequest, "this release of vLLM has no such sampling parameter",
         said=_vllm("Unexpected keyword argument 'foo'", release="Triton's backend 24.12")),
    _row(r"must be in \[|must be (at least|non-negative|positive|greater|less)", InvalidRequest, "",
         said=_vllm("min_p must be in [0, 1], got 5.", release="Triton's backend 24.12")),
    _row(r"greater than max allowed", InvalidRequest, "ask for fewer `logprobs`",
         said=_vllm("Requested sample logprobs of 100, which is greater than max allowed: 20")),
    _row(r"Grammar error", InvalidRequest, "correct the expression, schema or grammar in `response_format`",
         said=_vllm("Grammar error: Failed to parse regex")),
    _row(r"allowed_token_ids is not None and empty", InvalidRequest, "leave `triton.allowed_token_ids` out or fill it",
         said=_vllm("allowed_token_ids is not None and empty!")),
    _row(r"cannot identify image file", InvalidRequest, "it is no image, or of a kind that the engine cannot read",
         said=_vllm("cannot identify image file <_io.BytesIO object>")),
    _row(r"is not a multimodal model|At most 0 image", Unsupported,
         "the model takes text only; send the task without images",
         said=_vllm("m is not a multimodal model")),
    _row(r"LoRA feature is not enabled", Unsupported, "the model was loaded without LoRA; leave `triton.lora_name` out",
         said=_vllm("LoRA feature is not enabled.")),
    _row(r"LoRA .* is not supported, we currently support", InvalidRequest, "name one of those in `triton.lora_name`",
         said=_vllm("LoRA x is not supported, we currently support ['poet']")),
    # What the request names or lacks.
    _row(r"unknown model|^Unexpected .*ModelNotFound|requested model '.*' is not available|model .* is not found"
         r"|failed to poll from model repository",
         ModelNotFound, "list what there is with `worker-adapter models list`",
         said=_triton("Request for unknown model: 'nope' is not found")),
    _row(r"doesn't support models with decoupled transaction policy", Unsupported,
         "the model streams its responses, and this call returns one; ask for a stream",
         said=_triton("ModelInfer RPC doesn't support models with decoupled transaction policy")),
    _row(r"explicit model load / unload is not allowed", Unsupported,
         "start the server with --model-control-mode=explicit", retryable=False,
         said=_triton("explicit model load / unload is not allowed if polling is enabled")),
    _row(r"must specify the START flag|must specify a non-zero or non-empty correlation ID", InvalidRequest,
         "begin the sequence anew, with `start`",
         said=_triton("inference request for sequence 42 to model 'm' must specify the START flag on the first request "
                      "of the sequence")),
    _row(r"^load failed for model", EngineFailed, "see the reason, mend the model, load it again", retryable=False,
         said=_triton("load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: RuntimeError: no; ")),
    _row(r"unexpected (inference )?(input|output)|unexpected shape|data-type is"
         r"|expected (\d+|number of) inputs .{0,40}but got|expected \d+ inputs but got|invalid model version specified"
         r"|batch-size must be <=|expected \d+ (string|bytes?) elements|incomplete string data"
         r"|unable to find data for input|contents field must not be specified|invalid value type for"
         r"|failed to get model version from specified version string|is reserved for Triton", InvalidRequest,
         said=_triton("unexpected inference input 'zzz' for model 'm'")),
    _row(r"An error occurred when processing the input values", InvalidRequest, "",
         said=(Said("An error occurred when processing the input values for request id 7", "TensorRT-LLM 0.16",
                    "tensorrtllm_backend"),)),
    # An exception of the model's own code comes back for the same input.
    _row(r"^(\[request id: [^\]]*\] *)?Failed to process the request\(s\) for model", EngineFailed, "", retryable=False,
         said=_triton("Failed to process the request(s) for model 'm_0_0', message: RuntimeError: python exploded")),
    # Last, because it knows no more than who speaks.
    _row(r"^(in ensemble '[^']*', )?Error generating (stream|request):\s*$", InvalidRequest,
         "the backend refused the request and gave no reason; its log may have one", begun=EngineFailed,
         said=_vllm("")),
    _row(r"^(in ensemble '[^']*', )?Error generating (stream|request):", InvalidRequest, "", begun=EngineFailed,
         said=(*_vllm("a reason that nobody has met yet"),
               Said("Error generating request: top_k must be an integer", "TensorRT-LLM 0.20", "tensorrtllm_backend"))),
)  # fmt: skip

BY_CODE: dict[str, Row] = {
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
"""What a text that no row knows comes to, by its code."""

UNKNOWN_CODE = Row("", EngineFailed)
"""For a code that is none of gRPC's."""
IN_BAND = Row("", EngineFailed, retryable=True)
"""For a text that no row knows and that lost its code inside a stream; see the top of this file."""
