"""`determinism`: one request, many answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import anyio.to_thread
import pytest

from tests.triton_adapter.lab import loaded, tensor
from tests.worker_adapter.program import Finished, run
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio
no_spec = "how the program examines an engine is its own affair"

SHORT = ("--runs", "2", "--max-tokens", "12")


@pytest.fixture
def fakes() -> Iterator[tuple[FakeTriton, FakeTriton]]:
    with FakeTriton() as first, FakeTriton(version="2.60.0") as second:
        yield first, second


def mock(*arguments: str) -> Finished:
    return run("determinism", "--adapter", "mock", "--model", "mock", *SHORT, *arguments)


def test_an_engine_that_repeats_itself_exits_0() -> None:
    result = mock("--json")

    assert result.code == 0
    assert result.document["deterministic"]
    assert result.document["sent"] == {"max_tokens": 12, "seed": 7, "temperature": 0.0}
    assert [(run["mode"], run["number"]) for run in result.document["runs"]] == [
        ("sequential", 1),
        ("sequential", 2),
        ("concurrent", 1),
        ("concurrent", 2),
    ]


def test_a_model_that_ignores_its_seed_is_told() -> None:
    result = mock("--option", "reply=always the same words")

    assert result.code == 1
    assert "ignored: 4 different seeds gave one and the same text" in result.out


def test_the_answers_are_not_in_the_json_and_can_be_compared_by_digest() -> None:
    result = mock("--option", "reply=confidential words", "--json")

    assert "confidential" not in result.out
    assert len({run["sha256"] for run in result.document["runs"]}) == 1


def test_a_task_that_fails_exits_1_and_says_how() -> None:
    result = mock("--option", "fail=engine_failed")

    assert result.code == 1
    assert "engine_failed: injected" in result.out


def test_replicas_that_answer_differently_are_told_apart(fakes: tuple[FakeTriton, FakeTriton]) -> None:
    fakes[0].model("llama").respond_with_text("The river forgot its name.")
    fakes[1].model("llama").respond_with_text("The river forgot her name.")
    urls = [part for fake in fakes for part in ("--url", fake.grpc_url)]

    result = run("determinism", *urls, "--model", "llama", *SHORT, "--json")

    divergence = result.document["divergence"]
    assert result.code == 1
    assert divergence["replica"] == fakes[1].grpc_url
    assert divergence["position"] == len("The river forgot ")
    assert ("its name" in divergence["expected"], "her name" in divergence["found"]) == (True, True)


def test_replicas_of_different_versions_are_warned_of(fakes: tuple[FakeTriton, FakeTriton]) -> None:
    for fake in fakes:
        fake.model("llama").respond_with_text("same")
    urls = [part for fake in fakes for part in ("--url", fake.grpc_url)]

    result = run("determinism", *urls, "--model", "llama", *SHORT, "--json")

    assert any("2.51.0 and triton 2.60.0" in finding["message"] for finding in result.document["findings"])


def test_a_model_without_a_seed_is_asked_without_one(fakes: tuple[FakeTriton, FakeTriton]) -> None:
    fakes[0].model("echo").signature("text").respond_with_text("same")

    result = run("determinism", "--url", fakes[0].grpc_url, "--model", "echo", *SHORT, "--json")

    assert result.code == 0
    assert "seed" in result.document["left_out"]
    assert result.document["seeds"] is None


def test_a_model_that_is_not_there_fails_after_one_task() -> None:
    result = run("determinism", "--adapter", "mock", "--model", "nope", "--json")

    (failed,) = result.document["runs"]
    assert result.code == 1
    assert failed["error"].startswith("model_not_found: no model 'nope' here; there are mock")


def test_a_replica_that_cannot_be_reached_exits_3(closed_url: str) -> None:
    assert run("determinism", "--url", closed_url, "--model", "m").code == 3


@pytest.mark.live
def test_a_real_language_model_repeats_itself_and_keeps_to_its_seed(triton: EmbeddedTriton) -> None:
    result = run("determinism", "--url", triton.grpc_url, "--model", "tinylm", *SHORT, "--json")

    assert result.code == 0
    assert (result.document["seeds"]["ignored"], result.document["seeds"]["distinct"]) == (None, 4)


@pytest.mark.live
@pytest.mark.long
async def test_a_real_model_that_draws_lots_diverges_and_its_instances_are_warned_of(triton: EmbeddedTriton) -> None:
    code = """
        def execute(self, requests):
            import os
            return [answer(text_output=text("always " + os.urandom(8).hex())) for _ in requests]
    """
    async with (
        TritonAdapter(TritonSettings(url=triton.grpc_url)) as adapter,
        loaded(
            adapter, "lots", code=code,
            inputs=[tensor("text_input", "TYPE_STRING", 1), tensor("seed", "TYPE_UINT64", 1, optional=True)],
            outputs=[tensor("text_output", "TYPE_STRING", 1)],
            instance_group=[{"kind": "KIND_CPU", "count": 2}],
        ),
    ):  # fmt: skip
        result = await anyio.to_thread.run_sync(
            lambda: run("determinism", "--url", triton.grpc_url, "--model", "lots", *SHORT, "--json")
        )

    report = json.loads(result.out)
    assert result.code == 1
    assert report["divergence"]["position"] >= len("always ")
    assert "gave different texts" in report["seeds"]["ignored"]
    assert any("2 instances" in finding["message"] for finding in report["findings"])
