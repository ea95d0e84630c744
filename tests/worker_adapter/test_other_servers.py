"""The commands on servers of the v2 protocol that are no Triton, acted by the fake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker_adapter.program import run
from tests.worker_adapter.strangers import adapter_code, install
from triton_adapter.testing import FakeTriton

ADDER = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
input { name: "bias" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
"""


@pytest.fixture
def kserve() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        fake.model("adder").config(ADDER)
        fake.act_as(
            "kserve", without=["ModelConfig", "RepositoryIndex", "ModelStatistics"], refuses_unknown="NOT_FOUND"
        )
        yield fake


@pytest.mark.spec("ORCH-3057-038")
def test_health_of_a_named_model_that_is_not_there_is_a_failure(kserve: FakeTriton) -> None:
    result = run("health", "--url", kserve.grpc_url, "-o", "model=nosuch")

    assert result.code == 1
    assert "nosuch" in result.out
    assert "ready        yes" not in result.out
    assert run("health", "--url", kserve.grpc_url, "-o", "model=adder").code == 0


@pytest.mark.spec("ORCH-3057-038")
def test_health_of_a_named_model_fails_beside_models_that_are_well(kserve: FakeTriton) -> None:
    kserve.act_as("triton")

    result = run("health", "--url", kserve.grpc_url, "-o", "model=nosuch")

    assert result.code == 1
    assert "no: nosuch is not" in result.out


@pytest.mark.spec("ORCH-3057-037")
def test_doctor_does_not_say_load_one_where_nothing_is_listed(kserve: FakeTriton) -> None:
    unnamed = run("doctor", kserve.grpc_url)
    named = run("doctor", kserve.grpc_url, "-o", "model=adder")

    assert (unnamed.code, named.code) == (0, 0)
    assert "-o model=NAME" in unnamed.out
    assert "no model that is ready" not in unnamed.out
    assert "adder" in named.out


def test_whole_numbers_become_what_the_metadata_declares(kserve: FakeTriton) -> None:
    run("infer", "--url", kserve.grpc_url, "--model", "adder", "-i", "x=[1, 2]", "-i", "bias=[1]")

    (request,) = kserve.requests
    assert [(tensor.name, tensor.datatype) for tensor in request.inputs.values()] == [("x", "FP32"), ("bias", "FP32")]
    assert not [call for call in kserve.calls if call.origin.call == "RepositoryIndex"]


def test_plain_metadata_demands_nothing_and_refuses_nothing(kserve: FakeTriton) -> None:
    run("infer", "--url", kserve.grpc_url, "--model", "adder", "-i", "x=[[1, 2, 3]]", "-i", "more=5", "--output", "z")

    (request,) = kserve.requests  # the server decides
    assert [(tensor.name, tensor.shape) for tensor in request.inputs.values()] == [("x", (1, 3)), ("more", ())]
    assert request.outputs == ("z",)


def test_a_configuration_is_law(kserve: FakeTriton) -> None:
    kserve.act_as("triton")

    missing = run("infer", "--url", kserve.grpc_url, "--model", "adder", "-i", "x=[1, 2]")
    unknown = run("infer", "--url", kserve.grpc_url, "--model", "adder", "-i", "z=[1, 2]")

    assert "missing input: bias" in missing.err
    assert "no input 'z'" in unknown.err
    assert not kserve.requests


def test_an_inference_on_a_model_there_is_not_says_so(kserve: FakeTriton) -> None:
    result = run("infer", "--url", kserve.grpc_url, "--model", "nosuch", "-i", "x=1")

    assert result.code != 0
    assert "model_not_found" in result.err


# -- several adapters for one scheme -----------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3054-020")
def test_a_url_that_two_adapters_serve_needs_a_name(kserve: FakeTriton, tmp_path: Path) -> None:
    two = install(tmp_path, "another", adapter_code("another", scheme="grpc"))

    unnamed = run("health", "--url", kserve.grpc_url, env=two)
    named = run("health", "--url", kserve.grpc_url, "--adapter", "triton", env=two)

    assert unnamed.code == 2
    assert "another, triton" in unnamed.err
    assert "--adapter" in unnamed.err
    assert named.code == 0


@pytest.mark.spec("ORCH-3054-020")
def test_doctor_tries_those_that_serve_the_url_and_says_which_got_an_answer(kserve: FakeTriton, tmp_path: Path) -> None:
    # The mock answers whatever the address is; by name it comes before, or after, triton.
    for name, answering in (("another", "another"), ("zebra", "triton")):
        env = install(tmp_path / name, name, adapter_code(name, scheme="grpc"))

        result = run("doctor", kserve.grpc_url, env=env)

        assert f"{answering} got an answer" in result.out
        assert f"--adapter {answering}" in result.out


def test_models_list_does_not_speak_to_another_adapters_engine(kserve: FakeTriton, tmp_path: Path) -> None:
    env = install(tmp_path, "web", adapter_code("web", scheme="web"))
    url = kserve.grpc_url.replace("grpc://", "web://")

    result = run("models", "list", "--url", url, env=env)

    assert result.code == 2
    assert "served by web" in result.err
    assert not kserve.calls


def test_a_url_before_the_subcommand_is_not_forgotten(kserve: FakeTriton) -> None:
    result = run("models", "--url", kserve.grpc_url, "list")

    assert result.code == 2
    assert f"models list --url {kserve.grpc_url}" in result.err
