"""The JSON form of events, and that the committed schemas tell the truth about it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema
import pytest

from adapter_api import (
    ContextLengthExceeded,
    DeadlineExceeded,
    End,
    Error,
    Metrics,
    Started,
    TaskRequest,
    Timings,
    Token,
    TokenEvent,
    Usage,
    decode_event,
    encode_event,
)
from adapter_api.schemas.__main__ import FOLDER, stale

EVENTS: list[TokenEvent] = [
    Started(job_id="j", engine="triton", model="m"),
    Started(job_id="j", engine="triton", engine_version="2", model="m", model_version="1", seed=3, queue_position=0),
    Token(0, "é\n\u2028"),
    Token(1, "x", token_id=5, logprob=-0.5, choice=0),
    Metrics(queue_ms=1.5, engine={"kv": 1}),
    End(finish_reason="unknown"),
    End(finish_reason="stop", usage=Usage(tokens_in=1, tokens_out=2), timings=Timings(total_ms=3.0)),
    Error(code="overloaded", message="full", retryable=True, retry_after_s=1.0),
    Error.from_exception(DeadlineExceeded("late", stage="total")),
]


@cache
def committed(name: str) -> Any:
    """Return what validates by a committed schema; the schema itself is checked once."""
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_json_form_on_one_line(event: TokenEvent) -> None:
    line = encode_event(event)

    assert b"\n" not in line
    assert decode_event(line) == event


@pytest.mark.spec("ORCH-3059-037")
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_matches_the_committed_schema(event: TokenEvent) -> None:
    committed("token_event").validate(json.loads(encode_event(event)))


def test_the_committed_task_schema_accepts_a_task_and_refuses_an_unknown_field() -> None:
    schema = committed("task_request")
    fields = TaskRequest(model="m", prompt="p", stop=("x",)).model_dump(mode="json")

    schema.validate(fields)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({**fields, "surprise": 1})


def test_the_committed_schemas_are_fresh() -> None:
    assert stale() == []


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"type":"nonsense"}', b'{"type":"token"}', b'"token"'])
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a TokenEvent"):
        decode_event(line)


def test_an_error_event_tells_what_its_exception_told() -> None:
    exc = ContextLengthExceeded("too long")

    assert Error.from_exception(exc) == Error(code="context_length_exceeded", message="too long", retryable=False)
