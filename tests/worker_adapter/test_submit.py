"""`worker-adapter submit`: what it prints and how it ends."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest

from adapter_api import End, Error, Started, Token, encode_event
from adapter_api.testing import find_violation, text_of
from tests.worker_adapter.program import Running, run
from triton_adapter.embedded import EmbeddedTriton

MOCK = ("submit", "--adapter", "mock")


def assert_follows_the_schema(output: str) -> None:
    # That it is a schema is proved with the contract: to prove it for each line takes longer than the program.
    schema = json.loads((files("adapter_api.schemas") / "token_event.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for line in output.splitlines():
        validator.validate(json.loads(line))


def test_the_text_is_all_that_goes_to_standard_output() -> None:
    result = run(*MOCK, "--option", "reply=one two three", "hello")

    assert (result.code, result.out) == (0, "one two three\n")


def test_a_line_of_figures_goes_to_standard_error() -> None:
    result = run(*MOCK, "--option", "reply=one two three", "hello")

    assert "3 tokens" in result.err
    assert "tok/s" in result.err
    assert "first token" in result.err
    assert "finish: stop" in result.err


@pytest.mark.spec("ORCH-3059-037")
@pytest.mark.parametrize("extra", [(), ("--option", "fail=engine_failed", "--option", "fail_after=2")])
def test_json_is_one_event_per_line_as_the_schema_says(extra: tuple[str, ...]) -> None:
    result = run(*MOCK, *extra, "--json", "hello")

    assert_follows_the_schema(result.out)
    assert find_violation(result.events) is None
    assert result.out == "".join(encode_event(event).decode() + "\n" for event in result.events)


def test_json_writes_each_event_when_it_arrives() -> None:
    with Running(*MOCK, "--option", "hang_after=2", "--json", "hello") as program:
        lines = [json.loads(program.line())["type"] for _ in range(3)]

    assert lines == ["started", "token", "token"]


def test_text_is_written_when_it_arrives() -> None:
    with Running(*MOCK, "--option", "reply=one two three", "--option", "hang_after=1", "hello") as program:
        assert program.some_output() == "one"


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    first, second, other = (run(*MOCK, "--seed", seed, "hello").out for seed in ("7", "7", "8"))

    assert first == second
    assert first != other


def test_a_task_that_ends_in_an_error_exits_1_after_the_text_so_far() -> None:
    result = run(*MOCK, "--option", "reply=a b c", "--option", "fail=engine_failed", "--option", "fail_after=2", "hi")

    assert (result.code, result.out) == (1, "a b\n")
    assert result.err == "error[engine_failed]: injected engine_failed\n"


@pytest.mark.parametrize("code", ["connection_lost", "overloaded", "unauthenticated", "protocol_violation"])
def test_a_task_that_ends_in_an_error_exits_1(code: str) -> None:
    result = run(*MOCK, "--option", f"fail={code}", "--json", "hello")

    assert (result.code, result.error.code) == (1, code)


def test_an_engine_that_cannot_be_reached_exits_3() -> None:
    assert run(*MOCK, "--option", "fail=connect_failed", "hello").code == 3


def test_without_a_model_the_only_one_is_taken() -> None:
    started = run(*MOCK, "--option", 'models=["only"]', "--json", "hello").events[0]

    assert isinstance(started, Started)
    assert started.model == "only"


def test_without_a_model_and_several_to_choose_from_they_are_named() -> None:
    result = run(*MOCK, "--option", 'models=["one", "two"]', "hello")

    assert result.code == 2
    assert "one, two" in result.err
    assert "--model" in result.err


def test_a_total_time_that_runs_out_is_a_deadline_exceeded() -> None:
    result = run(*MOCK, "--option", "hang_after=0", "--timeout", "0.2", "--json", "hello")

    error = result.events[-1]
    assert isinstance(error, Error)
    assert (result.code, error.code, error.stage) == (1, "deadline_exceeded", "total")


def test_control_characters_reach_a_pipe_as_they_are() -> None:
    assert run(*MOCK, "--option", "reply=a\x1b[2Jb", "hello").out == "a\x1b[2Jb\n"


@pytest.mark.live
def test_a_real_model_streams_the_same_tokens_for_the_same_seed(triton: EmbeddedTriton) -> None:
    arguments = ("submit", "--url", triton.grpc_url, "--model", "tinylm", "-n", "24", "--json", "The import statement")
    first, second, other = (run(*arguments, "--seed", seed) for seed in ("3", "3", "4"))

    assert_follows_the_schema(first.out)
    assert first.code == 0
    assert find_violation(first.events) is None
    assert sum(isinstance(event, Token) for event in first.events) > 1
    assert text_of(first.events) == text_of(second.events)
    assert text_of(first.events) != text_of(other.events)


@pytest.mark.live
def test_a_real_model_stops_before_a_stop_string(triton: EmbeddedTriton) -> None:
    arguments = ("submit", "--url", triton.grpc_url, "--model", "tinylm", "-n", "40", "--seed", "3", "--json")
    whole = text_of(run(*arguments, "The import statement").events)
    word = whole.split()[3]

    stopped = run(*arguments, "--stop", word, "The import statement").events

    assert text_of(stopped) == whole[: whole.index(word)]
    assert isinstance(stopped[-1], End)
    assert stopped[-1].finish_reason == "stop"


@pytest.mark.live
def test_an_unknown_model_of_a_real_server_is_a_model_not_found_that_names_those_there_are(
    triton: EmbeddedTriton,
) -> None:
    result = run("submit", "--url", triton.grpc_url, "--model", "nope", "--json", "hello")

    assert (result.code, result.error.code) == (1, "model_not_found")
    assert "tinylm" in result.error.message


@pytest.mark.live
def test_a_real_server_with_many_text_models_asks_which(triton: EmbeddedTriton) -> None:
    result = run("submit", "--url", triton.grpc_url, "hello")

    assert result.code == 2
    assert "tinylm, tinytools, tinytrt" in result.err
