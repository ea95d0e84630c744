"""The table from status to error, row by row, without a server."""

from __future__ import annotations

import pytest

from adapter_api import (
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    ContextLengthExceeded,
    DeadlineExceeded,
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
from triton_adapter.wire.status import clean, error_for, find_row
from triton_adapter.wire.texts import BY_CODE, TABLE

ROWS = [
    ("NOT_FOUND", "Request for unknown model: 'nope' is not found", ModelNotFound, False),
    ("NOT_FOUND", "Request for unknown model: 'echo' version 9 is not found", ModelNotFound, False),
    (
        "INVALID_ARGUMENT",
        "failed to get model version from specified version string 'abc' (details: stol), version should be an "
        "integral value > 0",
        InvalidRequest,
        False,
    ),
    ("NOT_FOUND", "Request for unknown model: 'gen' has no available versions", NotReady, True),
    (
        "INVALID_ARGUMENT",
        "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'gen'. Got input(s) [], but missing "
        "required input(s) ['text_input']. Please provide all required input(s).",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "expected number of inputs between 1 and 2 but got 0 inputs for model 'gen'. Got input(s) [], but missing",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "invalid model version specified '-1' , version should be an integral value > 0",
        InvalidRequest,
        False,
    ),
    ("INVALID_ARGUMENT", "unexpected inference input 'zzz' for model 'echo'", InvalidRequest, False),
    (None, "Error generating stream: 'NoneType' object has no attribute 'lora_name'", InvalidRequest, False),
    ("INVALID_ARGUMENT", "unexpected inference output 'nope' for model 'echo'", InvalidRequest, False),
    (
        "INVALID_ARGUMENT",
        "inference input 'text_input' data-type is 'INT32', but model 'echo' expects 'BYTES'",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "unexpected shape for input 'text_input' for model 'echo'. Expected [-1,1], got [1].",
        InvalidRequest,
        False,
    ),
    ("INVALID_ARGUMENT", "inference request batch-size must be <= 8 for 'echo'", InvalidRequest, False),
    (
        "INVALID_ARGUMENT",
        "expected 2 string elements for inference input 'text_input' for model 'echo', got 1",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "incomplete string data for inference input 'x', expecting string of length 16 but only 2 bytes available",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "unable to find data for input tensor 'text_input' for model 'echo' in request.",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
        InvalidRequest,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "invalid value type for 'u' parameter, expected int64_param, bool_param, or string_param.",
        InvalidRequest,
        False,
    ),
    (
        "INTERNAL",
        "Failed to process the request(s) for model 'echo_0_0', message: RuntimeError: python exploded\n\nAt:\n"
        "  /srv/models/echo/1/model.py(14): execute\n",
        EngineFailed,
        False,
    ),
    ("INTERNAL", "in ensemble 'ensdec', boom mid", EngineFailed, False),
    ("INVALID_ARGUMENT", "requested model 'nope' is not available", ModelNotFound, False),
    (
        "UNAVAILABLE",
        "explicit model load / unload is not allowed if polling is enabled",
        Unsupported,
        False,
    ),
    ("INTERNAL", "failed to load 'nope', failed to poll from model repository", ModelNotFound, False),
    (
        "INVALID_ARGUMENT",
        "load failed for model 'broken': version 1 is at UNAVAILABLE state: Internal: RuntimeError: no; ",
        EngineFailed,
        False,
    ),
    ("UNAVAILABLE", "[request id: f6] Exceeds maximum queue size", Overloaded, True),
    ("UNAVAILABLE", "Request timeout expired", Overloaded, True),
    (
        "UNAVAILABLE",
        "This protocol is restricted, expecting header 'triton-grpc-protocol-key'",
        PermissionDenied,
        False,
    ),
    (
        "RESOURCE_EXHAUSTED",
        "CLIENT: Received message larger than max (5242924 vs. 4194304)",
        InvalidRequest,
        False,
    ),
    ("UNAVAILABLE", "Stream removed (Socket closed)", ConnectionLost, True),
    ("UNAVAILABLE", "Socket closed", ConnectionLost, True),
    ("UNAVAILABLE", "recvmsg:Connection reset by peer", ConnectionLost, True),
    ("UNAVAILABLE", "GOAWAY received", ConnectionLost, True),
    ("UNAVAILABLE", "Too many pings", ConnectionLost, True),
    ("UNAVAILABLE", "enter idle", ConnectionLost, True),
    (
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: "
        "Connection refused",
        ConnectFailed,
        True,
    ),
    (
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:80: Trying to connect an http1.x "
        "server",
        ConnectFailed,
        True,
    ),
    ("UNAVAILABLE", "DNS resolution failed for nohost:1", ConnectFailed, True),
    ("UNAVAILABLE", "Server exiting", NotReady, True),
    ("UNAVAILABLE", "Server not ready", NotReady, True),
    (
        "UNAVAILABLE",
        "GRPC server is shutting down and has stopped accepting new requests.",
        NotReady,
        True,
    ),
    (
        "UNAVAILABLE",
        "[request id: f1] Server is stopping, scheduler for model has stopped accepting new inference requests",
        NotReady,
        True,
    ),
    ("UNAVAILABLE", "Model is unavailable due to unhealthy vLLM engine", NotReady, True),
    ("NOT_FOUND", "Unable to find shared memory region: 'worker-adapter-7-abc'", NotReady, True),
    ("INTERNAL", "Stub process 'echo_0_0' is not healthy.", EngineFailed, True),
    (
        "UNIMPLEMENTED",
        "ModelInfer RPC doesn't support models with decoupled transaction policy",
        Unsupported,
        False,
    ),
    (
        "INVALID_ARGUMENT",
        "inference request for sequence 42 to model 'seq' must specify the START flag on the first request of the "
        "sequence",
        InvalidRequest,
        False,
    ),
    (
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: UNKNOWN: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED",
        Unauthenticated,
        False,
    ),
    (
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: UNKNOWN: Hostname Verification Check failed.",
        Unauthenticated,
        False,
    ),
    ("UNAUTHENTICATED", "no", Unauthenticated, False),
    ("PERMISSION_DENIED", "no", PermissionDenied, False),
    ("CANCELLED", "", NotReady, True),
    ("RESOURCE_EXHAUSTED", "", Overloaded, True),
    ("UNAVAILABLE", "", NotReady, True),
    ("SOMETHING_NEW", "what", EngineFailed, False),
]


TOO_LONG = [
    "Error generating stream: This model's maximum context length is 2048 tokens. However, you requested 4000",
    "The decoder prompt (length 5000) is longer than the maximum model length of 2048.",
    "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
    "Prompt length of 5016 is longer than the maximum model length of 4096",
    "Cannot process new request: Prompt length (5056) exceeds maximum sequence length (2048)",
    "Encountered an error when fetching new request: Prompt length (200) exceeds maximum input length (1).",
    "The sum of prompt length (100) and max_tokens (900) should not exceed max_num_tokens (512)",
]
REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
MORE_WORDS: list[tuple[str, str, type[AdapterError], bool]] = [
    ("UNAVAILABLE", "SSL routines: certificate verify failed", Unauthenticated, False),
    ("UNAVAILABLE", "peer name 10.0.0.1 is not in peer certificate", Unauthenticated, False),
    ("UNAVAILABLE", REFUSED + "tlsv13 alert certificate required", Unauthenticated, False),
    ("UNAVAILABLE", REFUSED + "sslv3 alert bad certificate", Unauthenticated, False),
    ("UNAVAILABLE", REFUSED + "tlsv1 alert unknown ca", Unauthenticated, False),
    ("UNAVAILABLE", REFUSED + "SSLV3_ALERT_CERTIFICATE_EXPIRED", Unauthenticated, False),
    *(
        ("UNAVAILABLE", f"{REFUSED}SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: {why}: OK", Unauthenticated, False)
        for why in (
            "certificate has expired",
            "certificate is not yet valid",
            "certificate revoked",
            "CA md too weak",
            "self signed certificate in certificate chain",
        )
    ),
    ("UNAVAILABLE", REFUSED + "sslv3 alert handshake failure", Unauthenticated, False),
    ("UNAVAILABLE", REFUSED + "Ssl handshake failed: WRONG_VERSION_NUMBER", ConnectFailed, True),
    ("UNAVAILABLE", REFUSED + "PACKET_LENGTH_TOO_LONG", ConnectFailed, True),
    ("UNAVAILABLE", REFUSED + "SSL routines: HTTP_REQUEST", ConnectFailed, True),
    ("UNIMPLEMENTED", "received http2 header with status: 404", ConnectFailed, True),
    ("UNAVAILABLE", REFUSED + "Connection reset by peer", ConnectFailed, True),
    ("UNAVAILABLE", REFUSED + "Socket closed", ConnectFailed, True),
    ("UNAVAILABLE", REFUSED + "No route to host", ConnectFailed, True),
    ("UNAVAILABLE", REFUSED + "Network is unreachable", ConnectFailed, True),
    ("UNAVAILABLE", "connection attempt timed out before receiving SETTINGS frame", ConnectFailed, True),
    ("UNAVAILABLE", "Domain name not found", ConnectFailed, True),
    ("UNAVAILABLE", "Could not contact DNS servers", ConnectFailed, True),
    ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (9 vs. 4)", InvalidRequest, False),
    ("RESOURCE_EXHAUSTED", "received metadata size exceeds hard limit (9 vs. 4)", InvalidRequest, False),
    ("UNAVAILABLE", "GOAWAY received; Error code: 11; Debug Text: ENHANCE_YOUR_CALM", ConnectionLost, True),
    ("UNAVAILABLE", "Broken pipe", ConnectionLost, True),
    ("UNAVAILABLE", "sendmsg: Broken pipe", ConnectionLost, True),
    ("UNKNOWN", "EOF", ConnectionLost, True),
    ("INTERNAL", "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))", ConnectionLost, True),
    # A model's own trouble, in an error that it answers: sending the task again would repeat the work, not mend it.
    ("INTERNAL", "the tokenizer service said: Connection reset by peer", EngineFailed, False),
    ("UNKNOWN", "psycopg: connection closed", EngineFailed, False),
    ("UNAVAILABLE", "End of TCP stream", ConnectionLost, True),
    ("UNAVAILABLE", "Endpoint closing", ConnectionLost, True),
    ("UNAVAILABLE", "Transport closed", ConnectionLost, True),
    ("UNAVAILABLE", "connection closed", ConnectionLost, True),
    ("INTERNAL", "RST_STREAM with error code 2", ConnectionLost, True),
    ("UNAVAILABLE", "max_age", ConnectionLost, True),
    ("UNAVAILABLE", "Request for unknown model: 'm' version 1 is not at ready state", NotReady, True),
    ("INTERNAL", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", EngineFailed, True),
    ("INTERNAL", "failed to allocate pinned system memory", EngineFailed, True),
    ("UNAVAILABLE", "the request queue is full", Overloaded, True),
    ("UNAVAILABLE", "too many requests", Overloaded, True),
    ("UNKNOWN", "Unexpected <class 'mlserver.errors.ModelNotFound'>: Model m not found", ModelNotFound, False),
    ("INVALID_ARGUMENT", "must specify a non-zero or non-empty correlation ID", InvalidRequest, False),
    ("INVALID_ARGUMENT", "parameter keys starting with 'triton_' is reserved for Triton", InvalidRequest, False),
    # A text that nobody knows: the code decides.
    ("INVALID_ARGUMENT", "so odd", InvalidRequest, False),
    ("OUT_OF_RANGE", "so odd", InvalidRequest, False),
    ("NOT_FOUND", "so odd", ModelNotFound, False),
    ("ALREADY_EXISTS", "shared memory region 'r' already in manager", InvalidRequest, False),
    ("FAILED_PRECONDITION", "so odd", NotReady, True),
    ("UNIMPLEMENTED", "Method not found!", Unsupported, False),
    ("ABORTED", "so odd", EngineFailed, True),
    ("DATA_LOSS", "so odd", ConnectionLost, True),
    ("UNKNOWN", "so odd", EngineFailed, False),
    ("INTERNAL", "so odd", EngineFailed, False),
]


def test_every_row_of_the_table_and_every_code_is_tried_here() -> None:
    tried = [find_row(code, text) for code, text, *_ in [*ROWS, *MORE_WORDS]]
    tried += [find_row("INTERNAL", text) for text in TOO_LONG]
    tried += [find_row(None, said.text) for _, row in TABLE for said in row.said]

    assert [row.text for _, row in TABLE if not any(row is one for one in tried)] == []
    assert [code for code, row in BY_CODE.items() if not any(row is one for one in tried)] == []


@pytest.mark.parametrize("code, text, error, retryable", [*ROWS, *MORE_WORDS])
def test_a_status_becomes_its_error(code: str, text: str, error: type[AdapterError], retryable: bool) -> None:
    found = error_for(code, text, what="model 'm' on grpc://h:1")

    assert type(found) is error
    assert found.retryable is retryable
    assert found.message.startswith("model 'm' on grpc://h:1: ")


@pytest.mark.parametrize("why, advice", [
    ("certificate has expired", "has ended"),
    ("certificate is not yet valid", "not valid yet"),
    ("unable to get local issuer certificate", "not signed by anybody"),
    ("self-signed certificate", "signed by itself"),
    ("EE certificate key too weak", "not made for this"),
])  # fmt: skip
def test_each_fault_of_a_servers_certificate_has_its_own_advice(why: str, advice: str) -> None:
    told = error_for("UNAVAILABLE", f"{REFUSED}OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: {why}: OK", what="x").message

    assert advice in told


@pytest.mark.parametrize("text", TOO_LONG)
def test_a_prompt_too_long_is_told_in_every_engines_words(text: str) -> None:
    assert type(error_for(None, text, what="x")) is ContextLengthExceeded
    assert type(error_for("INTERNAL", text, what="x")) is ContextLengthExceeded


@pytest.mark.parametrize(
    "text, error",
    [
        (text, error)
        for code, text, error, _ in [*ROWS, *MORE_WORDS]
        # Known by its words, Triton's own, and not about our way to it.
        if find_row(code, text).text
        and not text.startswith("Unexpected <class 'mlserver")
        and not issubclass(error, TransportError | Unauthenticated)
    ],
)
def test_the_same_words_mean_the_same_inside_a_stream_and_inside_an_ensemble(
    text: str, error: type[AdapterError]
) -> None:
    assert type(error_for(None, text, what="x")) is error
    assert type(error_for(None, f"in ensemble 'pipe', {text}", what="x")) is error


def test_an_error_inside_a_stream_has_no_code_and_is_known_by_its_text() -> None:
    assert type(error_for(None, "unexpected inference input 'a' for model 'b'", what="x")) is InvalidRequest
    assert type(error_for(None, "something else", what="x")) is EngineFailed


def test_a_deadline_names_its_stage() -> None:
    found = error_for("DEADLINE_EXCEEDED", "Deadline Exceeded", what="x", stage="health")

    assert isinstance(found, DeadlineExceeded)
    assert found.stage == "health"


def test_messages_lose_tracebacks_and_the_servers_directories() -> None:
    text = (
        "Failed to process the request(s) for model 'echo_0_0', message: RuntimeError: cannot open "
        "/srv/private/models/echo/1/weights.bin\n\nAt:\n  /srv/private/models/echo/1/model.py(14): execute\n"
    )

    said = clean(text)

    assert (
        said == "Failed to process the request(s) for model 'echo_0_0', message: RuntimeError: cannot open weights.bin"
    )


def test_messages_lose_a_python_traceback_but_keep_its_last_line() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/opt/models/bls/1/model.py", line 10, in execute\n'
        "    raise ValueError('no end_id')\n"
        "ValueError: no end_id\n"
    )

    assert clean(text) == "ValueError: no end_id"


def test_the_prompt_never_reaches_a_message() -> None:
    prompt = "my very secret prompt\nof two lines"

    error = error_for(None, f"cannot tokenize {prompt!r} nor {prompt}", what="x", hide=[prompt])

    assert "secret" not in error.message


def test_long_messages_are_cut() -> None:
    assert len(clean("x" * 10_000)) == 400


@pytest.mark.parametrize("request_id", ["f6", "a]b", "a] [b", "]", "(x+", "a b"])
def test_the_mark_of_the_request_leaves_no_scrap_wherever_it_stands_and_whatever_the_id_holds(request_id: str) -> None:
    mark = f"[request id: {request_id}] "
    first = error_for("UNAVAILABLE", f"{mark}Exceeds maximum queue size", what="m", request_id=request_id)
    middle = error_for(
        None,
        f"in ensemble 'e', {mark}Failed to process the request(s) for model 'x': bad",
        what="m",
        request_id=request_id,
    )

    assert isinstance(first, Overloaded)
    assert first.message.startswith("m: Exceeds maximum queue size")
    assert middle.message == "m: in ensemble 'e', Failed to process the request(s) for model 'x': bad"


def test_marks_of_other_requests_go_too_and_controls_with_them() -> None:
    assert clean("in ensemble 'e', [request id: <id_unknown>] no\x1b[2J \u202esuch") == "in ensemble 'e', no[2J such"
