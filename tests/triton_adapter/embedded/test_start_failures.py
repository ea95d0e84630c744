"""A start that fails says what happened, to what, and what to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapter_api.errors import AdapterError, ConfigurationError, DeadlineExceeded, EngineFailed
from triton_adapter.embedded import EmbeddedTriton, launch
from triton_adapter.embedded.backends import add_backends
from triton_adapter.embedded.ports import choose_ports

from .repositories import GOOD, QUICK, add_model

pytestmark = pytest.mark.live


def failure(repository: Path | None = None, **options: object) -> AdapterError:
    """Return the error that starting a server raises."""
    options = {"extra_args": QUICK} | options
    with pytest.raises(AdapterError) as raised, EmbeddedTriton(repository, **options):  # type: ignore[arg-type]
        pytest.fail("the server started")
    return raised.value


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "code, reason",
    [
        (
            "class TritonPythonModel:\n  def initialize(self, args):\n    raise OSError('no weights')",
            "OSError: no weights",
        ),
        ("class TritonPythonModel\n", "SyntaxError: expected ':'"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        (None, "Python model file not found"),
    ],
    ids=["raises", "syntax", "import", "missing"],
)
def test_a_model_that_fails_to_load_is_named_with_its_reason(tmp_path: Path, code: str | None, reason: str) -> None:
    error = failure(add_model(add_model(tmp_path, "good"), "broken", code))

    assert isinstance(error, EngineFailed)
    assert "model 'broken' failed to load" in str(error)
    assert reason in str(error)
    assert "good" not in str(error)
    assert "\n" not in str(error), "the server's noise is no part of the reason"
    _forget_log(error)


def test_the_place_of_the_failure_in_the_models_file_is_named(tmp_path: Path) -> None:
    code = "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('x')\n"

    error = failure(add_model(tmp_path, "broken", code))

    assert f"(at {tmp_path}/broken/1/model.py:3)" in str(error)
    _forget_log(error)


def test_blanks_in_a_path_change_nothing_in_what_is_said(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path / "two words", "broken", "import no_such_module\n"))

    assert f"(at {tmp_path}/two words/broken/1/model.py:1)" in str(error)
    _forget_log(error)


def test_every_failing_model_is_named(tmp_path: Path) -> None:
    code = "raise ValueError(__file__)"

    error = failure(add_model(add_model(tmp_path, "one", code), "two", code))

    assert "model 'one'" in str(error)
    assert "model 'two'" in str(error)
    _forget_log(error)


def test_a_faulty_configuration_is_shown_with_its_place(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path, "broken", config='name: "broken"\nmax_batch_siz: 3\n'))

    assert isinstance(error, EngineFailed)
    assert 'has no field named "max_batch_siz"' in str(error)
    _forget_log(error)


def test_a_model_whose_process_dies_is_noticed_at_once(tmp_path: Path) -> None:
    # While it completes the configuration, the server itself waits half a minute for an answer.
    repository = add_model(tmp_path, "dying", "import os\nos._exit(3)\n")
    error = failure(repository, startup_timeout_s=25, extra_args=[])

    assert isinstance(error, EngineFailed), "it took the whole time"
    assert "the Python process of a model ended (still loading: dying)" in str(error)
    _forget_log(error)


@pytest.mark.long
def test_a_model_that_never_gets_ready_ends_in_a_timeout_that_names_it(tmp_path: Path) -> None:
    code = "import time\nclass TritonPythonModel:\n    def initialize(self, args):\n        time.sleep(600)\n"

    error = failure(add_model(tmp_path, "sleeper", code), startup_timeout_s=2)

    assert isinstance(error, DeadlineExceeded)
    assert error.stage == "connect"
    assert "not ready after 2 s (still loading: sleeper)" in str(error)
    log = _forget_log(error)
    assert "loading: sleeper:1" in log


def test_a_model_to_load_that_does_not_exist_is_named(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path, "echo"), model_control_mode="explicit", load_models=["nosuch"])

    assert isinstance(error, ConfigurationError)
    assert "has no model 'nosuch'; it has echo" in str(error)


def test_an_argument_that_triton_does_not_know_is_shown(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path, "echo"), extra_args=["--no-such-argument=1"])

    assert "--no-such-argument" in str(error)
    _forget_log(error)


@pytest.mark.parametrize("port", ["grpc_port", "http_port", "metrics_port"])
def test_a_taken_port_is_named(tmp_path: Path, port: str) -> None:
    with taken_port() as number:
        error = failure(add_model(tmp_path, "echo"), **{port: number})

    assert isinstance(error, ConfigurationError)
    assert f"port {number}" in str(error)


@pytest.mark.parametrize(
    "name", ["gRPC", *(pytest.param(name, marks=pytest.mark.long) for name in ("HTTP", "metrics"))]
)
@pytest.mark.long
def test_a_free_port_that_is_lost_before_its_use_is_replaced(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken_port() as taken:
        choices = iter([{name: taken}, {}])
        monkeypatch.setattr(launch, "choose_ports", lambda wanted: choose_ports(wanted) | next(choices))

        with EmbeddedTriton(add_model(tmp_path, "echo"), extra_args=QUICK) as triton:
            assert triton.models == ["echo"]
            assert str(taken) not in {url.rpartition(":")[2] for url in (triton.grpc_url, triton.http_url)}

    assert next(choices, None) is None, "the lost port was not noticed"


@pytest.mark.parametrize("port", [80_000, -1])
def test_a_number_that_is_no_port_is_refused(tmp_path: Path, port: int) -> None:
    error = failure(add_model(tmp_path, "echo"), grpc_port=port)

    assert isinstance(error, ConfigurationError)
    assert str(port) in str(error)


def test_one_port_for_two_services_is_refused(tmp_path: Path) -> None:
    with taken_port() as free:
        pass

    error = failure(add_model(tmp_path, "echo"), grpc_port=free, http_port=free)

    assert isinstance(error, ConfigurationError)
    assert f"port {free}" in str(error)


@pytest.mark.long
def test_a_model_may_fail_when_that_was_allowed(tmp_path: Path) -> None:
    repository = add_model(add_model(tmp_path, "good"), "broken", "raise ValueError")
    allowed = ["--exit-on-error=false", "--strict-readiness=false", *QUICK]

    with EmbeddedTriton(repository, extra_args=allowed) as triton:
        assert triton.models == ["good"]


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    error = failure(tmp_path / "nowhere")

    assert isinstance(error, ConfigurationError)
    assert f"{tmp_path / 'nowhere'} does not exist" in str(error)


def test_an_empty_repository_is_refused_with_what_belongs_into_it(tmp_path: Path) -> None:
    error = failure(tmp_path)

    assert isinstance(error, ConfigurationError)
    assert "config.pbtxt" in str(error)


@pytest.mark.long
def test_a_failed_start_can_be_followed_by_one_that_works(tmp_path: Path) -> None:
    add_model(tmp_path, "echo", "raise ValueError")
    triton = EmbeddedTriton(tmp_path)
    with pytest.raises(EngineFailed) as raised:
        triton.start()
    _forget_log(raised.value)

    (tmp_path / "echo" / "1" / "model.py").write_text(GOOD)

    with triton:
        assert triton.models == ["echo"]


def test_a_binary_that_is_none_is_refused(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path, "echo"), server_binary=tmp_path / "tritonserver")

    assert isinstance(error, ConfigurationError)
    assert str(tmp_path / "tritonserver") in str(error)


def test_a_binary_that_ends_at_once_is_reported_with_what_it_said(tmp_path: Path) -> None:
    binary = tmp_path / "tritonserver"
    binary.write_text("#!/bin/sh\necho no license >&2\nexit 1\n")
    binary.chmod(0o755)

    error = failure(add_model(tmp_path / "models", "echo"), server_binary=binary)

    assert isinstance(error, EngineFailed)
    assert "ended with status 1" in str(error)
    assert "no license" in str(error)
    _forget_log(error)


@pytest.mark.parametrize("aborts, status", [(1, 1), (2, 134)])
def test_a_server_that_aborts_while_it_starts_is_started_once_more(tmp_path: Path, aborts: int, status: int) -> None:
    binary, starts, told = tmp_path / "tritonserver", tmp_path / "starts", list[str]()
    binary.write_text(
        f"#!/bin/sh\necho no luck\necho >>{starts}\n[ $(wc -l <{starts}) -gt {aborts} ] || kill -ABRT $$\nexit 1\n"
    )
    binary.chmod(0o755)

    error = failure(add_model(tmp_path / "models", "echo"), server_binary=binary, on_progress=told.append)

    assert f"ended with status {status}" in str(error)
    assert len(starts.read_text().splitlines()) == 2
    assert sum("once more" in each for each in told) == 1
    _forget_log(error)


def test_a_binary_that_cannot_be_executed_is_named_with_the_reason(tmp_path: Path) -> None:
    binary = tmp_path / "tritonserver"
    binary.write_bytes(b"\x7fELF is not enough")
    binary.chmod(0o755)

    error = failure(add_model(tmp_path / "models", "echo"), server_binary=binary)

    assert f"cannot run {binary}" in str(error)
    assert "Exec format error" in str(error)


def test_an_interpreter_that_does_not_run_is_named(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path, "echo"), python=tmp_path / "python3")

    assert isinstance(error, ConfigurationError)
    assert str(tmp_path / "python3") in str(error)


def _forget_log(error: AdapterError) -> str:
    """Return the log that the error points to, and remove it."""
    found = re.search(r"\(log: (\S+)\)", str(error))
    assert found, "a log is kept and nobody is told where"
    log = Path(found[1])
    text = log.read_text()
    log.unlink()
    return text


# -- backends that the wheel does not have -----------------------------------------------------------------------------

ECHOING = """
backend: "echoing"
max_batch_size: 0
input [ { name: "IN", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "OUT", data_type: TYPE_FP32, dims: [ -1 ] } ]
"""


def test_a_model_of_a_backend_that_is_not_there_says_how_to_give_one(tmp_path: Path) -> None:
    error = failure(add_model(tmp_path, "m", None, ECHOING))

    assert isinstance(error, ConfigurationError)
    assert "'echoing'" in error.message
    assert "only the Python backend" in error.message
    assert "--backend-directory" in error.message


@pytest.mark.long
def test_a_backend_of_the_users_runs_its_models(tmp_path: Path) -> None:
    backend = tmp_path / "backends" / "echoing"
    backend.mkdir(parents=True)
    (backend / "model.py").write_text(GOOD)
    repository = add_model(tmp_path / "models", "m", None, ECHOING)

    with EmbeddedTriton(repository, backend_directory=backend.parent, extra_args=QUICK) as server:
        assert server.models == ["m"] or tuple(server.models) == ("m",)


def test_a_folder_with_the_python_backend_alone_adds_none(tmp_path: Path) -> None:
    """As that of a Triton of one's own may be: the wheel has that backend, for its own server."""
    (tmp_path / "backends" / "python").mkdir(parents=True)
    (tmp_path / "into").mkdir()

    add_backends(tmp_path / "backends", tmp_path / "into", Path("/nowhere/bin/tritonserver"))

    assert list((tmp_path / "into").iterdir()) == []


def test_a_folder_without_backends_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    repository = add_model(tmp_path / "models", "m", None, ECHOING)

    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        error = failure(repository, backend_directory=folder)
        assert isinstance(error, ConfigurationError)
        assert str(folder) in error.message
