"""Logs of a host: JSON, with their fields, and without what is nobody's business."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest

from adapter_api import End, Error, Started, TaskRequest, Token, TokenEvent, Usage
from adapter_api.testing import MockAdapter, collect
from orchestrator.config import LogSettings
from orchestrator.observability.logging import configure_logging
from tests.orchestrator.pooling import orchestrator, task
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio

SECRET = "canary-secret-4711"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging(LogSettings(), [SECRET], stream)
    yield stream
    root.handlers[:], root.level = handlers, level


def records(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.spec("ORCH-3062-008")
async def test_a_task_leaves_one_record_with_all_its_fields(log: io.StringIO) -> None:
    async with orchestrator({}) as host:
        await collect(host.submit(task(job_id="j1", session_id="s")))

    ended = [record for record in records(log) if record.get("job_id") == "j1"]
    assert len(ended) == 1
    assert ended[0]["event"] == "job j1 ended (length) after 3 tokens"
    assert {
        "job_id", "session_id", "engine", "engine_version", "pool_id", "replica_id", "queue_position",
        "predicted_start_ms", "tokens_in", "tokens_out", "decode_time_ms", "model_id", "outcome", "timestamp", "level",
    } <= ended[0].keys()  # fmt: skip
    assert (ended[0]["tokens_out"], ended[0]["replica_id"]) == (3, "r0")


ENDINGS: dict[str | None, End | Error] = {
    "counted": End(finish_reason="stop", usage=Usage(tokens_out=29)),
    "counted nothing": End(finish_reason="stop", usage=Usage(tokens_out=0)),
    "did not count": End(finish_reason="stop"),
    "broke": Error(code="engine_failed", message="broke", retryable=False),
}


class InPieces(MockAdapter):
    """Shows two pieces of output, then ends as the prompt says."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        yield Token(0, "two pieces, ")
        yield Token(1, "many tokens")
        yield ENDINGS[task.prompt]


@pytest.mark.spec("ORCH-3062-008")
@pytest.mark.parametrize(
    "prompt, said, number",
    [
        ("counted", "ended (stop) after 29 tokens", 29),
        ("counted nothing", "ended (stop) after 0 tokens", 0),
        ("did not count", "ended (stop) after 2 pieces", 2),
        ("broke", "ended (engine_failed) after 2 pieces: broke", 2),
    ],
)
async def test_an_end_tells_the_tokens_that_the_engine_counted_and_else_the_pieces(
    log: io.StringIO, prompt: str, said: str, number: int
) -> None:
    plugins = plugin_host(mock="tests.orchestrator.observability.test_logging:InPieces")
    async with orchestrator({}, plugins=plugins) as host:
        await collect(host.submit(task(job_id="j1", prompt=prompt)))

    (ended,) = [record for record in records(log) if "outcome" in record]
    assert (ended["event"], ended["tokens_out"]) == (f"job j1 {said}", number)


@pytest.mark.spec("ORCH-3062-008")
@pytest.mark.parametrize(
    "code, level",
    [
        ("connection_lost", "warning"), ("engine_failed", "warning"), ("not_ready", "warning"),
        ("invalid_request", "info"), ("unsupported", "info"),
    ],
)  # fmt: skip
async def test_a_task_that_fails_for_nothing_in_it_is_a_warning(log: io.StringIO, code: str, level: str) -> None:
    async with orchestrator({"fail": code}, retry={"attempts": 1}) as host:
        await collect(host.submit(task(job_id="j1")))

    (ended,) = [record for record in records(log) if record.get("job_id") == "j1" and "outcome" in record]
    assert (ended["outcome"], ended["level"]) == (code, level)


@pytest.mark.spec("ORCH-3062-008")
async def test_a_task_that_is_refused_leaves_a_record(log: io.StringIO) -> None:
    async with orchestrator({}) as host:
        await collect(host.submit(task(job_id="j1", model="nope")))

    assert [record["code"] for record in records(log) if record.get("job_id") == "j1"] == ["model_not_found"]


@pytest.mark.spec("ORCH-3062-001", "ORCH-3062-010")
async def test_no_prompt_no_answer_and_no_secret_is_logged(log: io.StringIO) -> None:
    canary = "canary-prompt-0815"
    async with orchestrator({"reply": "canary-answer-42", "fail": "engine_failed", "fail_after": 1}, {}) as host:
        await collect(host.submit(task(prompt=canary, job_id="j")))
        await collect(host.submit(task(prompt=canary, stop=[canary], messages=None)))

    assert records(log)
    for said in (canary, "canary-answer-42"):
        assert said not in log.getvalue()


@pytest.mark.spec("ORCH-3062-010")
def test_known_secrets_are_blotted_out_wherever_they_stand(log: io.StringIO) -> None:
    logging.getLogger("x").warning("token %s", SECRET, extra={"nested": {"list": [f"Bearer {SECRET}"]}})

    record = records(log)[0]
    assert record["event"] == "token ***"
    assert record["nested"] == {"list": ["Bearer ***"]}


@pytest.mark.spec("ORCH-3062-010")
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "value", [{SECRET}, {"a": {SECRET: 1}}, {(SECRET,): 1}, ValueError(SECRET), SECRET.encode(), [{"a": [{SECRET}]}]]
)
def test_no_kind_of_value_hides_a_secret(log: io.StringIO, value: object, form: Literal["json", "text"]) -> None:
    configure_logging(LogSettings(format=form), [SECRET], log)

    logging.getLogger("x").warning("odd", extra={"value": value})

    assert SECRET not in log.getvalue()
    assert "***" in log.getvalue()


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_a_value_that_cannot_be_told_does_not_cost_the_record(log: io.StringIO) -> None:
    logging.getLogger("x").warning("odd", extra={"value": Unspeakable()})

    assert records(log)[0]["value"] == "<Unspeakable>"


@pytest.mark.spec("ORCH-3062-010")
def test_an_exception_is_told_by_type_and_place_and_not_by_its_text(log: io.StringIO) -> None:
    try:
        raise ValueError("what a client sent")
    except ValueError:
        logging.getLogger("x").exception("it broke")

    record = records(log)[0]
    assert record["exception"] == "ValueError"
    assert "test_an_exception_is_told" in record["traceback"][-1]
    assert "what a client sent" not in log.getvalue()


def test_a_log_that_cannot_be_written_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging(LogSettings(), (), FullDisk())

    logging.getLogger("x").warning("told to nobody")

    root.handlers[:], root.level = handlers, level
    assert capsys.readouterr().err == ""


def test_a_long_text_is_cut(log: io.StringIO) -> None:
    text = "m" * 1_000_000  # by a name, lest a failure print it

    logging.getLogger("x").info("model %s", text)

    event = records(log)[0]["event"]
    assert len(event) < 2100
    assert event.endswith("(1000006 characters)")


def test_one_record_is_one_line_also_as_text(log: io.StringIO) -> None:
    configure_logging(LogSettings(format="text"), [], log)

    logging.getLogger("x").warning("engine says %s", "a\nb", extra={"session_id": "c\r\n\x1b[31md"})

    assert log.getvalue().count("\n") == 1
    assert "\x1b" not in log.getvalue()
    assert "a\\x0ab" in log.getvalue()


@pytest.mark.parametrize("odd", ["né", "\ud800", float("nan"), {1: object}, object()])
def test_what_json_has_no_word_for_is_logged_all_the_same_and_in_ascii(log: io.StringIO, odd: object) -> None:
    logging.getLogger("x").warning("odd", extra={"odd": odd})

    assert log.getvalue().isascii()
    assert records(log)[0]["event"] == "odd"


def test_times_are_those_of_the_records_in_utc(log: io.StringIO) -> None:
    for created in (1_000_000_000.25, 1_000_000_000.5, 1_000_000_001.0):
        logging.getLogger("x").handle(logging.makeLogRecord({"msg": "m", "levelno": 20, "created": created}))

    assert [record["timestamp"] for record in records(log)] == [
        "2001-09-09T01:46:40.250000Z", "2001-09-09T01:46:40.500000Z", "2001-09-09T01:46:41.000000Z",
    ]  # fmt: skip
