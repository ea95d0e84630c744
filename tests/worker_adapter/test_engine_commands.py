"""`health`, `props` and `models`."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from adapter_api import EngineProps, HealthReport
from tests.worker_adapter.program import run
from triton_adapter.embedded import EmbeddedTriton


def test_health_of_a_ready_engine_exits_0() -> None:
    result = run("health", "--url", "mock://")

    assert result.code == 0
    assert "ready" in result.out


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_health_of_an_engine_that_takes_no_work_exits_1(state: str) -> None:
    result = run("health", "--adapter", "mock", "--option", f"state={state}")

    assert result.code == 1
    assert state in result.out


def test_health_of_an_engine_that_cannot_be_reached_exits_3() -> None:
    assert run("health", "--adapter", "mock", "--option", "state=unreachable").code == 3


def test_health_in_json_is_a_health_report() -> None:
    report = msgspec.json.decode(run("health", "--url", "mock://", "--json").out, type=HealthReport)

    assert report.ready
    assert [model.name for model in report.models] == ["mock"]


def test_props_in_json_are_engine_props() -> None:
    props = msgspec.json.decode(run("props", "--url", "mock://", "--json").out, type=EngineProps)

    assert props.engine == "mock"
    assert [model.name for model in props.models] == ["mock"]


def test_props_leave_out_what_the_engine_does_not_tell() -> None:
    result = run("props", "--url", "mock://")

    assert result.code == 0
    assert "max batch size" not in result.out
    assert "None" not in result.out


def test_models_lists_the_models_with_what_each_takes() -> None:
    result = run("models", "--adapter", "mock", "--option", 'models=["one", "two"]')

    assert [line.split()[0] for line in result.out.splitlines()] == ["MODEL", "one", "two"]
    assert "streaming" in result.out


def test_models_in_json_is_one_object() -> None:
    result = run("models", "--url", "mock://", "--json")

    assert [model["name"] for model in result.document["models"]] == ["mock"]


def test_the_url_may_come_from_the_environment() -> None:
    assert run("health", env={"WORKER_ADAPTER_URL": "mock://"}).code == 0


@pytest.mark.live
def test_health_of_a_real_server_lists_its_models(triton: EmbeddedTriton) -> None:
    result = run("health", "--url", triton.grpc_url, "--json")

    assert result.code == 0
    assert {model["name"] for model in result.document["models"]} >= set(triton.models)


@pytest.mark.live
def test_props_of_a_real_server_name_its_version(triton: EmbeddedTriton) -> None:
    assert triton.version in run("props", "--url", triton.grpc_url).out


@pytest.mark.live
def test_models_of_a_real_server_tell_their_dialects(triton: EmbeddedTriton) -> None:
    models = {m["name"]: m for m in json.loads(run("models", "--url", triton.grpc_url, "--json").out)["models"]}

    assert (models["tinylm"]["dialect"], models["tinytrt"]["dialect"]) == ("vllm", "trtllm")


@pytest.mark.parametrize("command", ["health", "props", "models"])
def test_an_address_that_says_nothing_exits_3_within_the_timeout(command: str, silent_url: str) -> None:
    began = time.monotonic()

    result = run(command, "--url", silent_url, "--timeout", "0.5")

    assert result.code == 3
    assert time.monotonic() - began < 10
