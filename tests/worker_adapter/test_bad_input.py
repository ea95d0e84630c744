"""Bad input gets a typed error in a sentence, within the deadline: never a traceback, never a hang."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest

from tests.worker_adapter.program import Finished, run

# The adapter's own deadlines are 5 s each, and the machine may be busy.
PATIENCE_S = 30.0


def submit(*arguments: str, stdin: str = "") -> Finished:
    began = time.monotonic()
    result = run("submit", *arguments, "--json", stdin=stdin)
    assert time.monotonic() - began < PATIENCE_S
    assert result.err == ""
    return result


@pytest.mark.parametrize(
    "arguments", [("--max-tokens", "0", "hi"), ("--model", "nope", "hi"), ("--option", "fail=connect_failed", "hi")]
)
def test_without_json_the_same_error_is_one_line_on_standard_error(arguments: tuple[str, ...]) -> None:
    told = submit("--adapter", "mock", *arguments)

    result = run("submit", "--adapter", "mock", *arguments)

    assert (result.code, result.out) == (told.code, "")
    assert result.err == f"error[{told.error.code}]: {told.error.message}\n"


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--adapter", "mock", ""], "the prompt is empty"),
        (["--adapter", "mock", "--max-tokens", "0", "hi"], "max_tokens"),
        (["--adapter", "mock", "--max-tokens", "-3", "hi"], "max_tokens"),
        (["--adapter", "mock", "--temperature", "nan", "hi"], "temperature"),
        (["--adapter", "mock", "--top-p", "1.5", "hi"], "top_p"),
        (["--adapter", "mock", "--model", "", "hi"], "model"),
        (["--adapter", "mock", "--job-id", "a b", "hi"], "job_id"),
        (["--adapter", "mock", "--max-tokens", "3", "--min-tokens", "4", "hi"], "min_tokens"),
    ],
)
def test_an_invalid_task_is_a_usage_error_that_names_the_field(arguments: Sequence[str], fault: str) -> None:
    result = submit(*arguments)

    assert (result.code, result.error.code) == (2, "invalid_request")
    assert fault in result.error.message


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "not both"),
        ({"prompt": "a", "max_token": 3}, "max_token: unknown field"),
        ({"prompt": ""}, "the prompt is empty"),
        ({}, "give 'prompt' or 'messages'"),
    ],
)
def test_an_invalid_task_as_json_is_a_usage_error_that_names_the_field(fields: dict[str, object], fault: str) -> None:
    result = submit("--adapter", "mock", "--task", "-", stdin=json.dumps({"model": "mock", **fields}))

    assert (result.code, result.error.code) == (2, "invalid_request")
    assert fault in result.error.message


def test_a_task_that_is_not_json_is_a_usage_error() -> None:
    result = submit("--adapter", "mock", "--task", "-", stdin="{")

    assert (result.code, result.error.code) == (2, "invalid_request")
    assert "standard input is not JSON" in result.error.message


def test_an_error_does_not_repeat_the_prompt() -> None:
    result = submit("--adapter", "mock", "--model", "nope", "my secret plans")

    assert "secret" not in result.out + result.err


@pytest.mark.spec("ORCH-3054-014")
def test_an_unknown_adapter_is_a_usage_error_that_lists_those_there_are() -> None:
    result = submit("--adapter", "nope", "hi")

    assert (result.code, result.error.code) == (2, "unknown_adapter")
    assert "mock" in result.error.message


@pytest.mark.parametrize("arguments", [(), ("--url", "localhost:8001"), ("--url", "ftp://localhost")])
def test_a_url_that_chooses_no_adapter_is_a_usage_error_that_says_what_would(arguments: tuple[str, ...]) -> None:
    result = submit(*arguments, "hi")

    assert (result.code, result.error.code) == (2, "unknown_adapter")
    assert "grpc://" in result.error.message


@pytest.mark.spec("ORCH-3054-006")
def test_an_unknown_setting_is_a_usage_error_that_names_it() -> None:
    result = submit("--adapter", "mock", "--option", "replay=x", "hi")

    assert (result.code, result.error.code) == (2, "invalid_configuration")
    assert "replay" in result.error.message


@pytest.mark.parametrize(
    "settings",
    [("reply",), ("=x",), ("models=[",), ("reply=a", "reply=b"), ("reply=a", "reply.b=c"), ("url.a=b", "url=c")],
)
def test_a_malformed_setting_is_a_usage_error(settings: tuple[str, ...]) -> None:
    arguments = [part for setting in settings for part in ("--option", setting)]

    assert submit("--adapter", "mock", *arguments, "hi").error.code == "invalid_configuration"


def test_an_unknown_model_fails_the_task_and_names_those_there_are() -> None:
    result = submit("--adapter", "mock", "--model", "nope", "hi")

    assert (result.code, result.error.code) == (1, "model_not_found")
    assert "mock" in result.error.message


@pytest.mark.parametrize("model", [("--model", "m"), ()])
@pytest.mark.spec("ORCH-3058-002")
def test_a_url_that_nothing_listens_on_exits_3(closed_url: str, model: tuple[str, ...]) -> None:
    result = submit("--url", closed_url, *model, "hi")

    assert (result.code, result.error.code) == (3, "connect_failed")
    assert closed_url.removeprefix("grpc://") in result.error.message


@pytest.mark.parametrize("model", [("--model", "m"), ()])
def test_a_url_where_something_else_answers_exits_3(http_url: str, model: tuple[str, ...]) -> None:
    assert submit("--url", http_url, *model, "hi").code == 3


@pytest.mark.parametrize("model", [("--model", "m"), ()])
def test_a_url_where_nothing_is_ever_said_exits_3_within_the_deadline(silent_url: str, model: tuple[str, ...]) -> None:
    options = ("--option", "connect_timeout_s=0.5", "--option", "control_timeout_s=0.5")

    assert submit("--url", silent_url, *options, *model, "hi").code == 3


def test_a_host_that_does_not_exist_exits_3() -> None:
    assert submit("--url", "grpc://no-such-host.invalid:8001", "--model", "m", "hi").code == 3
