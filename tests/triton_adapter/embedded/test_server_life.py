"""How a server of one's own begins, ends, and what it leaves behind: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from adapter_api.errors import AdapterClosed
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.embedded.readiness import is_ready

from .engine import WAIT_S, open_stream, stream, tensor
from .repositories import QUICK, add_model
from .traces import Traces, alive, listens

pytestmark = pytest.mark.live


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one model, because these tests start a server each."""
    return add_model(tmp_path / "repository", "echo")


def test_a_stop_leaves_nothing_behind(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        traces = Traces.of(triton)
        assert all(traces.left().values()), "the test would see nothing even if something were left"

    assert not any(traces.left().values()), traces.left()
    assert not triton.is_running


def test_it_listens_on_loopback_only_and_on_ports_of_its_own(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        ports = Traces.of(triton).ports
        sockets = _listening(triton.pid)

    assert len(set(ports)) == 3
    # 127.0.0.1, also as an IPv6 socket sees it.
    assert {address for address, port in sockets} <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert {port for _, port in sockets} == set(ports)


@pytest.mark.long
def test_the_server_keeps_to_one_core_unless_it_is_given_all(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        kept = os.sched_getaffinity(triton.pid)
    with EmbeddedTriton(repository, extra_args=QUICK, all_cores=True) as triton:
        given = os.sched_getaffinity(triton.pid)

    ours = os.sched_getaffinity(0)
    assert len(kept) == 1
    assert kept <= ours
    assert given == ours


def test_a_kill_leaves_nothing_behind(repository: Path) -> None:
    triton = EmbeddedTriton(repository, extra_args=QUICK).start()
    traces = Traces.of(triton)

    triton.kill()

    assert not any(traces.left().values()), traces.left()


def test_a_crash_of_the_server_is_seen_and_tidied_up(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        traces = Traces.of(triton)
        os.kill(triton.pid, signal.SIGKILL)
        _wait_until(lambda: not triton.is_running)
        with pytest.raises(AdapterClosed, match="start it first"):
            _ = triton.models
        assert triton.exit_code == 128 + signal.SIGKILL

    assert not any(traces.left().values()), traces.left()


def test_a_crashed_server_refuses_connections_though_its_models_had_its_sockets(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        address = ("127.0.0.1", int(triton.grpc_url.rpartition(":")[2]))
        models = [pid for pid in Traces.of(triton).pids if pid != triton.pid]
        os.kill(triton.pid, signal.SIGKILL)
        _wait_until(lambda: not triton.is_running)

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        assert models
        assert not [pid for pid in models if alive(pid)]


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)],
    ids=lambda number: number.name,
)
@pytest.mark.long
def test_the_server_does_not_outlive_the_program_that_started_it(repository: Path, number: signal.Signals) -> None:
    program = (
        "import signal, sys, threading\n"
        # A shell starts its background jobs with SIGINT ignored, and whatever these start inherits that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "from triton_adapter.embedded import EmbeddedTriton\n"
        # From a thread that ends at once: what counts is the death of the program, not of the thread.
        "triton = EmbeddedTriton(Path(sys.argv[1]))\n"
        "starter = threading.Thread(target=triton.start)\n"
        "starter.start(); starter.join()\n"
        "print(triton.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(repository)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with owner:
        assert owner.stdout
        traces = Traces.of_pid(int(owner.stdout.readline()))
        assert traces.left()["processes"]

        owner.send_signal(number)

        assert traces.all_gone()


def test_the_server_dies_with_its_supervisor(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        traces = Traces.of(triton)
        supervisor = traces.pids[-1]

        os.kill(supervisor, signal.SIGKILL)
        _wait_until(lambda: not triton.is_running)

    assert traces.all_gone()


@pytest.mark.long
def test_a_paused_server_is_silent_and_goes_on_when_resumed(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        triton.pause()
        assert not is_ready(Traces.of(triton).ports[1], timeout_s=0.5)
        triton.resume()

        assert triton.models == ["echo"]


@pytest.mark.long
def test_a_paused_server_can_be_stopped(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK, shutdown_timeout_s=5) as triton:
        traces = Traces.of(triton)
        triton.pause()

    assert not any(traces.left().values()), traces.left()


@pytest.mark.long
def test_a_stop_lets_a_running_request_end() -> None:
    with EmbeddedTriton(model_control_mode="explicit", load_models=["slow"]) as triton:
        parameters = {"max_tokens": 20, "delay_ms": 100}
        with open_stream(triton, "slow", [tensor("text_input", "word")], parameters) as messages:
            messages.get(timeout=WAIT_S)
            triton.stop()
            last = [messages.get(timeout=WAIT_S) for _ in range(19)][-1]

    result, error = last
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param


def test_a_stop_cuts_a_request_that_does_not_end_in_time() -> None:
    triton = EmbeddedTriton(model_control_mode="explicit", load_models=["slow"], shutdown_timeout_s=1).start()
    parameters = {"max_tokens": 10_000, "delay_ms": 10, "ignore_cancel": True}
    with open_stream(triton, "slow", [tensor("text_input", "word")], parameters) as messages:
        messages.get(timeout=WAIT_S)
        traces, began = Traces.of(triton), time.monotonic()
        triton.stop()

    assert time.monotonic() - began < 5
    assert not any(traces.left().values()), traces.left()


@pytest.mark.long
def test_a_stop_does_not_wait_for_a_model_that_the_server_wrongly_holds() -> None:
    triton = EmbeddedTriton(model_control_mode="explicit", load_models=["tinytrt"], shutdown_timeout_s=60).start()
    refused = stream(triton, "tinytrt", [tensor("text_input", "no max_tokens", batched=True)])
    assert refused.errors
    began = time.monotonic()

    triton.stop()

    assert time.monotonic() - began < 20


@pytest.mark.long
def test_start_and_stop_may_be_repeated(repository: Path) -> None:
    triton = EmbeddedTriton(repository, extra_args=QUICK)
    triton.stop()

    first = triton.start().pid
    assert triton.start().pid == first
    triton.stop()
    triton.stop()
    second = triton.start().pid
    triton.stop()

    assert second != first


def test_asked_before_its_start_it_says_so() -> None:
    triton = EmbeddedTriton()

    for ask in (lambda: triton.grpc_url, lambda: triton.pid, lambda: triton.models, lambda: triton.version):
        with pytest.raises(AdapterClosed):
            ask()
    assert triton.is_running is False
    assert triton.log_tail() == ""


@pytest.mark.long
def test_given_ports_are_used_and_urls_stay_readable_after_the_stop(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as first:
        port = Traces.of(first).ports[0]

    with EmbeddedTriton(repository, extra_args=QUICK, grpc_port=port) as second:
        assert second.grpc_url == f"grpc://127.0.0.1:{port}"
        assert listens(port)

    assert second.grpc_url.endswith(f":{port}")


@pytest.mark.long
def test_the_log_is_kept_where_it_was_asked_for(repository: Path, tmp_path: Path) -> None:
    log_file = tmp_path / "logs" / "server.log"

    with EmbeddedTriton(repository, extra_args=QUICK, log_file=log_file) as triton:
        assert triton.log_path == log_file
        assert "Started Metrics Service" in triton.log_tail(50)

    assert "successfully loaded 'echo'" in log_file.read_text()


@pytest.mark.long
def test_the_end_of_the_log_can_be_read_after_a_stop(repository: Path) -> None:
    with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        pass

    assert "live models" in triton.log_tail()
    assert len(triton.log_tail(2).splitlines()) == 2


@pytest.mark.long
def test_progress_is_told_in_sentences(repository: Path) -> None:
    lines: list[str] = []

    with EmbeddedTriton(repository, extra_args=QUICK, on_progress=lines.append):
        pass

    assert lines[0].startswith("loading 1 model")
    assert lines[-1].startswith("1 model ready after")


def test_a_server_in_explicit_mode_loads_what_it_is_told(tmp_path: Path) -> None:
    repository = add_model(add_model(tmp_path, "one"), "two")

    with EmbeddedTriton(repository, extra_args=QUICK, model_control_mode="explicit", load_models=["two"]) as triton:
        assert triton.models == ["two"]


@pytest.mark.long
@pytest.mark.anyio
async def test_it_is_an_async_context_manager_too(repository: Path) -> None:
    async with EmbeddedTriton(repository, extra_args=QUICK) as triton:
        traces = Traces.of(triton)
        assert triton.models == ["echo"]

    assert not any(traces.left().values()), traces.left()


@pytest.mark.anyio
async def test_a_cancelled_start_stops_what_it_started(tmp_path: Path) -> None:
    sleeper = "import time\nclass TritonPythonModel:\n    def initialize(self, args):\n        time.sleep(600)\n"
    started = threading.Event()
    lines: list[str] = []

    def progress(line: str) -> None:
        lines.append(line)
        started.set()

    triton = EmbeddedTriton(add_model(tmp_path, "sleeper", sleeper), extra_args=QUICK, on_progress=progress)
    async with anyio.create_task_group() as tasks:

        async def start() -> None:
            async with triton:
                raise AssertionError("it cannot have become ready")

        tasks.start_soon(start)
        assert await anyio.to_thread.run_sync(started.wait, 20)
        traces = Traces.of(triton)
        tasks.cancel_scope.cancel()

    assert not any(traces.left().values()), traces.left()


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import json, sys, triton_adapter.embedded\n"
        "print(json.dumps([name for name in ('grpc', 'numpy', 'pytriton', 'tritonclient') if name in sys.modules]))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == []


def _listening(pid: int) -> set[tuple[str, int]]:
    """Return (address, port) of each TCP socket the process listens on, the address as the kernel writes it."""
    inodes = {target[8:-1] for target in _open_files(pid) if target.startswith("socket:")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and fields[9] in inodes:
                found.add((address, int(port, 16)))
    return found


def _open_files(pid: int) -> Iterator[str]:
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        # The server opens and closes files while we look.
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(fd)


def _wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    give_up = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return
        give_up.wait(0.02)
    raise AssertionError(f"it did not become true within {timeout_s:g} s")
