"""`bench`: what an engine gives, beside other clients of it."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest

from openai_adapter.testing import FakeOpenAI
from tests.worker_adapter.program import Running, run
from triton_adapter.embedded import EmbeddedTriton
from worker_adapter.bench.agreement import Agreement
from worker_adapter.bench.report import Report
from worker_adapter.bench.samples import Answer, Window, percentile, ratios, spreads

no_spec = "how the program measures an engine is its own affair"

SMALL = ("--streams", "2", "--tokens", "4", "--tasks", "2")
MOCK = ("bench", "mock://", *SMALL)


def test_all_rounds_are_measured_and_their_load_is_said_before_they_start() -> None:
    result = run(*MOCK, "--json")

    report = msgspec.json.decode(result.out, type=Report)
    (ours,) = report.clients
    assert result.code == 0, result.err
    assert (report.kind, report.rounds, report.stopped, ours.tasks, ours.errors) == ("text", 5, None, 10, {})
    assert {"tokens_per_s", "first_token_ms_p99", "between_tokens_ms_p50", "cpu_us_per_token"} <= set(ours.figures)
    assert all(spread.min <= spread.median <= spread.max for spread in ours.figures.values())
    assert result.err.startswith("load: at most 15 tasks of up to 4 tokens")


def test_a_table_has_no_colours_in_a_pipe_and_markdown_goes_to_its_file(tmp_path: Path) -> None:
    page = tmp_path / "report.md"

    result = run(*MOCK, "--markdown", str(page))

    assert result.code == 0
    assert "\x1b" not in result.out
    assert "errors, of 10 tasks each" in result.out
    assert "| tokens/s |" in page.read_text(encoding="utf-8")


def test_tasks_that_fail_are_counted_by_code_and_exit_1() -> None:
    result = run(*MOCK, "--option", "fail=engine_failed", "--json")

    assert result.code == 1
    assert result.error.code == "engine_failed"


@pytest.mark.parametrize("rounds", ["0", "4", "-1", "many"])
def test_fewer_than_five_rounds_are_refused(rounds: str) -> None:
    result = run(*MOCK, "--rounds", rounds)

    assert result.code == 2
    assert "--rounds" in result.err
    assert "load:" not in result.err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--tasks", "1000000", "--tokens", "1000000"), "take more --rounds instead"),
        (("--markdown", "no/such/folder/report.md"), "its folder is not there"),
        (("--tensors",), "--model"),
        (("--input", "X=[1]", "--prompt", "hello"), "give one of them"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(arguments: tuple[str, ...], said: str) -> None:
    result = run(*MOCK, *arguments)

    assert result.code == 2, result.err
    assert said in result.err.lower()


def test_a_model_that_is_not_there_is_named() -> None:
    with FakeOpenAI() as engine:
        result = run("bench", engine.url, "--adapter", "openai", "--model", "nope", *SMALL)

    assert result.code == 1
    assert "error[model_not_found]" in result.err
    assert "nope" in result.err


def test_a_server_that_is_not_there_exits_3(closed_url: str) -> None:
    result = run("bench", closed_url, "--model", "any", *SMALL)

    assert result.code == 3
    assert "error[connect_failed]" in result.err


def test_openais_sdk_is_told_the_same() -> None:
    with FakeOpenAI() as engine:
        result = run("bench", engine.url, "--adapter", "openai", "--model", "tiny", *SMALL, "--json")

    report = msgspec.json.decode(result.out, type=Report)
    assert result.code == 0, result.err
    assert [client.name for client in report.clients] == ["worker-adapter", "openai"]
    assert report.contents == "same"
    assert report.clients[1].ours_is_better["cpu_us_per_token"].median > 0


@pytest.mark.live
def test_tritonclient_is_told_the_same_by_a_real_triton(triton: EmbeddedTriton) -> None:
    result = run("bench", triton.grpc_url, "--model", "tinylm", *SMALL, "--json")

    report = msgspec.json.decode(result.out, type=Report)
    assert result.code == 0, result.err
    assert [client.name for client in report.clients] == ["worker-adapter", "tritonclient.grpc.aio"]
    assert report.contents == "same"
    assert set(report.clients[1].errors) == set()


@pytest.mark.live
def test_inferences_of_made_up_inputs_are_measured_beside_tritonclient(triton: EmbeddedTriton) -> None:
    result = run("bench", triton.grpc_url, "--model", "addsub", *SMALL, "--json")

    report = msgspec.json.decode(result.out, type=Report)
    assert result.code == 0, result.err
    assert (report.kind, report.contents) == ("tensors", "same")
    assert report.sent["INPUT0"] == "FP32 [1, 4]"
    assert set(report.clients[1].ours_is_better) == set(report.clients[0].figures)


def test_ctrl_c_shows_what_was_measured() -> None:
    with Running("bench", "mock://", *SMALL, "--rounds", "1000", "--seconds", "600", "--json") as program:
        program.wait_until_it_says("round 3 ")
        program.signal(signal.SIGINT)
        result = program.finish()

    report = msgspec.json.decode(result.out, type=Report)
    assert result.code == 130
    assert report.stopped == "SIGINT"
    assert 2 <= report.rounds < 1000
    assert report.clients[0].tasks == 2 * report.rounds


@pytest.mark.long
def test_a_picture_is_drawn_of_the_ratios(tmp_path: Path) -> None:
    picture = tmp_path / "ratios.png"

    with FakeOpenAI() as engine:
        run("bench", engine.url, "--adapter", "openai", "--model", "tiny", *SMALL, "--png", str(picture))

    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_client_that_is_told_something_else_is_reported_with_the_place() -> None:
    agreement = Agreement("ours")

    agreement.look("ours", [Answer(0.1, "one two"), Answer(0.1, "one two")])
    agreement.look("other", [Answer(0.1, "one two"), Answer(0.1, "one too"), Answer(0.1, error="unavailable")])

    (mismatch,) = agreement.mismatches
    assert agreement.verdict == "different"
    assert (mismatch.client, mismatch.answers, mismatch.of, mismatch.position) == ("other", 1, 2, 5)


def test_nobody_is_blamed_where_the_model_says_what_it_likes() -> None:
    agreement = Agreement("ours")

    agreement.look("ours", [Answer(0.1, "a"), Answer(0.1, "b")])
    agreement.look("other", [Answer(0.1, "c")])

    assert agreement.mismatches == ()
    assert agreement.verdict.startswith("not checked: the model answers the same request differently")


@pytest.mark.parametrize("percent, value", [(50, 2), (99, 4), (1, 1), (100, 4)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == value


def test_a_ratio_above_1_is_to_our_credit_whichever_way_is_better() -> None:
    ours = [Window([Answer(0.1, "x", 10, 0.1, [0.1])], wall_s=1.0, cpu_s=1.0)]
    theirs = [Window([Answer(0.2, "x", 10, 0.2, [0.2])], wall_s=2.0, cpu_s=3.0)]

    found = ratios("text", ours, theirs)

    assert (found["tokens_per_s"].median, found["cpu_us_per_token"].median) == (2.0, 3.0)
    assert found["first_token_ms_p50"].median == pytest.approx(2.0)


def test_a_round_in_which_all_failed_has_no_figures() -> None:
    assert spreads("text", [Window([Answer(0.1, error="overloaded")], 1.0, 1.0)]) == {}
