"""`worker-adapter triton`: a real server in the foreground."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.worker_adapter.program import Running, is_gone, run

pytestmark = pytest.mark.live

ECHO_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("text_output", pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy())]
            )
            for request in requests
        ]
"""
ECHO_CONFIG = """
backend: "python"
input [ { name: "text_input", data_type: TYPE_STRING, dims: [ 1 ] } ]
output [ { name: "text_output", data_type: TYPE_STRING, dims: [ 1 ] } ]
"""


def repository(folder: Path, code: str) -> Path:
    (folder / "repository" / "echo" / "1").mkdir(parents=True)
    (folder / "repository" / "echo" / "config.pbtxt").write_text(ECHO_CONFIG)
    (folder / "repository" / "echo" / "1" / "model.py").write_text(code)
    return folder / "repository"


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_the_first_line_is_the_server_as_json_and_a_signal_stops_it_with_exit_code_0(number: signal.Signals) -> None:
    with Running("triton", "--json") as program:
        ready = json.loads(program.line())
        healthy = run("health", "--url", ready["grpc_url"]).code
        program.signal(number)
        result = program.finish()

    assert ready.keys() == {"grpc_url", "http_url", "metrics_url", "models", "pid"}
    assert "tinylm" in ready["models"]
    assert (healthy, result.code, result.out) == (0, 0, "")
    assert is_gone(ready["pid"])


@pytest.mark.long
def test_it_serves_anybodys_own_models_and_submit_reaches_them(tmp_path: Path) -> None:
    with Running("triton", "--json", "--model-repository", str(repository(tmp_path, ECHO_MODEL))) as program:
        ready = json.loads(program.line())
        answer = run("submit", "--url", ready["grpc_url"], "hello from outside")
        program.signal(signal.SIGTERM)
        program.finish()

    assert ready["models"] == ["echo"]
    assert answer.out == "hello from outside\n"


@pytest.mark.long
def test_it_listens_on_the_port_it_is_given() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with Running("triton", "--json", "--grpc-port", str(port)) as program:
        ready = json.loads(program.line())

    assert ready["grpc_url"] == f"grpc://127.0.0.1:{port}"
    assert is_gone(ready["pid"])


@pytest.mark.long
def test_a_server_that_crashes_ends_the_program_with_its_last_words() -> None:
    with Running("triton", "--json") as program:
        ready = json.loads(program.line())
        os.kill(ready["pid"], signal.SIGKILL)
        result = program.finish()

    assert (result.code, result.error.code) == (1, "engine_failed")
    assert "Started GRPCInferenceService" in result.err


def test_a_server_that_dies_in_the_middle_of_a_stream_ends_the_task_with_one_error() -> None:
    with Running("triton", "--json") as server:
        ready = json.loads(server.line())
        arguments = ("submit", "--url", ready["grpc_url"], "-m", "tinylm", "-n", "1500", "--json", "The import")
        with Running(*arguments) as program:
            for _ in range(5):
                program.line()
            os.kill(ready["pid"], signal.SIGKILL)
            result = program.finish()

    assert result.code == 1
    assert [event for event in result.events if hasattr(event, "code")] == [result.events[-1]]
    assert getattr(result.events[-1], "code", None) == "connection_lost"


def test_a_port_that_is_taken_is_a_usage_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = run("triton", "--grpc-port", str(port), "--json")

    assert (result.code, result.error.code) == (2, "invalid_configuration")
    assert str(port) in result.error.message


def test_a_repository_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    result = run("triton", "--model-repository", str(tmp_path / "nowhere"), "--json")

    assert (result.code, result.error.code) == (2, "invalid_configuration")
    assert "nowhere" in result.error.message


def test_a_model_that_fails_to_load_ends_the_program_with_its_reason(tmp_path: Path) -> None:
    result = run("triton", "--model-repository", str(repository(tmp_path, "import no_such_module\n")), "--json")

    assert (result.code, result.error.code) == (1, "engine_failed")
    assert "echo" in result.error.message
    assert "no_such_module" in result.error.message
