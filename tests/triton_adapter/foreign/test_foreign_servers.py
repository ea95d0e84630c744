"""Real servers of the v2 protocol that are no plain Triton: what the program says of them, and does with them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.triton_adapter.foreign.running import Running, server
from tests.triton_adapter.other_servers import HOLES

pytestmark = pytest.mark.long

LISTED = ("mlserver",)
PLAIN = ("mlserver", "kserve")
"""Those that tell nothing of a model but its metadata."""


@pytest.fixture(scope="module", params=sorted(HOLES))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Each server in its turn, with a model `adder` that doubles two numbers."""
    with server(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


def test_the_fake_acts_it_as_it_is(running: Running) -> None:
    holes, answers = HOLES[running.name], running.ask("adder")

    assert {call for call, answer in answers.items() if answer == "UNIMPLEMENTED"} - {"listed", "name"} == set(
        holes.without
    )
    assert answers["unknown model"] == (holes.refuses_unknown or False)
    if "ServerMetadata" not in holes.without:
        assert answers["name"] == holes.name
    if running.name == "pytriton":
        assert answers["listed"] in ([], "UNAVAILABLE")  # empty, or only for those with its token


@pytest.mark.spec("ORCH-3057-036", "ORCH-3057-037")
def test_doctor_says_what_is_true_and_what_to_set(running: Running) -> None:
    named, unnamed = running.run("doctor", "-o", "model=adder"), running.run("doctor")

    assert (named.code, unnamed.code) == (0, 0), named.out + unnamed.out
    assert "adder" in named.out
    assert "no model that is ready" not in unnamed.out
    assert ("-o model=NAME" in unnamed.out) == (running.name not in LISTED)
    if running.name in PLAIN:
        assert "model_transaction_policy" not in named.out
        assert "answers once" not in named.out  # it takes no text


@pytest.mark.spec("ORCH-3057-036")
def test_props_describe_the_named_model(running: Running) -> None:
    ended = running.run("props", "-o", "model=adder", "--json")

    (model,) = json.loads(ended.out)["models"]
    assert (model["name"], model["ready"]) == ("adder", True)
    assert [spec["name"] for spec in model["inputs"]] == ["x"]
    assert ("tensor_stream" in model["capabilities"]) == (running.name not in PLAIN)


@pytest.mark.spec("ORCH-3057-036", "ORCH-3057-038")
def test_health_tells_a_model_that_is_there_from_one_that_is_not(running: Running) -> None:
    there, absent = running.run("health", "-o", "model=adder"), running.run("health", "-o", "model=nosuch")

    assert (there.code, absent.code) == (0, 1), absent.out
    assert "nosuch" in absent.out


def test_an_inference_is_cast_to_what_is_declared_and_answered(running: Running) -> None:
    x = "x=[1, 2]" if running.name == "dynamo" else "x=[[1, 2]]"
    ended = running.run("infer", "--model", "adder", "--input", x, "--json")

    assert ended.code == 0, ended.err
    (output,) = json.loads(ended.out)["outputs"]
    values = output["data"][0] if isinstance(output["data"][0], list) else output["data"]
    assert (output["name"], output["datatype"], values) == ("y", "FP32", [2.0, 4.0])


def test_an_inference_on_a_model_that_is_not_there_says_so(running: Running) -> None:
    ended = running.run("infer", "--model", "nosuch", "--input", "x=[1, 2]")

    assert ended.code != 0
    assert "model_not_found" in ended.err


# -- over REST ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3066-001", "ORCH-3066-006")
@pytest.mark.parametrize("running", ["mlserver"], indirect=True)
def test_over_rest_it_is_described_and_answers_the_same(running: Running) -> None:
    over_rest = running.http_url
    doctor, props, health, absent = (
        running.run("doctor", "-o", "model=adder", url=over_rest),
        running.run("props", "-o", "model=adder", "--json", url=over_rest),
        running.run("health", "-o", "model=adder", url=over_rest),
        running.run("health", "-o", "model=nosuch", url=over_rest),
    )
    asked = [
        running.run("infer", "--model", "adder", "--input", "x=[[1, 2]]", "--json", url=url)
        for url in (running.url, over_rest)
    ]
    refused = running.run("infer", "--model", "nosuch", "--input", "x=[1, 2]", url=over_rest)

    assert (doctor.code, health.code, absent.code) == (0, 0, 1), doctor.out + health.out + absent.out
    (model,) = json.loads(props.out)["models"]
    assert (model["name"], model["ready"], model["cancel_mode"]) == ("adder", True, "client_only")
    by_grpc, by_rest = (json.loads(ended.out)["outputs"] for ended in asked)
    assert by_rest == by_grpc
    assert "model_not_found" in refused.err, refused.err


# -- Dynamo's text models ----------------------------------------------------------------------------------------------


on_dynamo = pytest.mark.parametrize("running", ["dynamo"], indirect=True)


@on_dynamo
def test_a_text_streams_from_dynamo(running: Running) -> None:
    ended = running.run("submit", "--model", "talker", "--json", "hello")

    events = [json.loads(line) for line in ended.out.splitlines()]
    assert [event["text"] for event in events if event["type"] == "token"] == ["one ", "two ", "three ", "four"]
    assert (events[-1]["type"], events[-1]["finish_reason"]) == ("end", "stop")
    # It says a word every 0.2 s: one that came whole would have come with the last.
    assert events[-1]["timings"]["decode_time_ms"] > 400


@on_dynamo
@pytest.mark.parametrize(
    "prompt, code",
    [
        ("value error", "invalid_request"),
        ("timeout", "engine_failed"),
        ("slow down", "overloaded"),
        ("cancelled", "not_ready"),
        ("fail midway", "engine_failed"),
        ("break off", "stream_incomplete"),
    ],
)
def test_an_error_of_a_worker_is_what_its_first_word_says(running: Running, prompt: str, code: str) -> None:
    ended = running.run("submit", "--model", "talker", prompt)

    assert f"error[{code}]" in ended.err


@on_dynamo
def test_what_dynamo_would_drop_is_refused(running: Running) -> None:
    ended = running.run("submit", "--model", "talker", "--max-tokens", "2", "hello")

    assert "error[unsupported]" in ended.err
    assert "drops the parameters" in ended.err


@on_dynamo
def test_a_worker_that_dies_in_the_middle_of_a_text_is_told_as_a_lost_worker(running: Running) -> None:
    """It dies for the rest of the module: this model is only for this."""
    ended = running.run("submit", "--model", "mortal", "--json", "die midway")

    events = [json.loads(line) for line in ended.out.splitlines()]
    assert [event["text"] for event in events if event["type"] == "token"] == ["one ", "two "]
    assert (events[-1]["code"], events[-1]["retryable"]) == ("not_ready", True), events[-1]


@on_dynamo
def test_a_model_of_conversations_is_refused_in_words_that_name_the_other_face(running: Running) -> None:
    ended = running.run("submit", "--model", "chatter", "hello")

    assert ended.code != 0
    assert "error[" in ended.err, ended.err


@on_dynamo
def test_a_worker_that_says_it_can_serve_nobody_is_tried_elsewhere(running: Running) -> None:
    ended = running.run("submit", "--model", "talker", "unavailable")

    assert "error[not_ready]" in ended.err
