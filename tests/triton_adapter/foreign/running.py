"""Foreign servers of the protocol, each in an environment of its own, and the program run against them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from foreign_servers import make

from triton_adapter.embedded.interpreter import server_python
from triton_adapter.embedded.libpython import find_libpython

SERVERS = Path(__file__).parent / "servers"
_ANYWHERE = frozenset({"kserve", "dynamo"})
"""Those that listen on all addresses, whatever they are told."""
_READY_S, _COMMAND_S, _STOP_S = 90.0, 60.0, 20.0
_DEMO_MODEL = "adder"


class Finished(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str


class Running(NamedTuple):
    """A server that runs, and how processes get to where it listens."""

    name: str
    port: int
    way: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        """Where a server with both speaks HTTP: at the next port."""
        return f"http+v2://127.0.0.1:{self.port + 1}"

    def run(self, command: str, *arguments: str, url: str | None = None) -> Finished:
        """Run a command of the program on the server."""
        return self._run("-m", "worker_adapter", command, "--url", url or self.url, *arguments)

    def ask(self, model: str) -> dict[str, Any]:
        """Return how the server answers each question of the protocol."""
        ended = self._run(str(Path(__file__).parent / "ask.py"), f"127.0.0.1:{self.port}", model)
        assert ended.code == 0, ended.err
        answers: dict[str, Any] = json.loads(ended.out)
        return answers

    def _run(self, *arguments: str) -> Finished:
        root = str(Path(__file__).parents[3])
        ended = subprocess.run(
            [*self.way, sys.executable, *arguments], capture_output=True, text=True, timeout=_COMMAND_S, cwd=root,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": root},
        )  # fmt: skip
        return Finished(ended.returncode, ended.stdout, ended.stderr)


@contextmanager
def server(name: str, folder: Path) -> Iterator[Running]:
    """Run a server until the end; skips the test where it cannot run, with what to do about that."""
    with ExitStack() as stack:
        way = stack.enter_context(network_namespace(name)) if name in _ANYWHERE else ()
        command, env = _command(name, folder, port := _port())
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*way, *command], stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
            )  # fmt: skip
        stack.callback(_stop, process)
        running = Running(name, port, way)
        _wait(running, process, folder / "log")
        yield running


def _command(name: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    if name == "pytriton":
        interpreter = server_python()
        if interpreter.pytriton is None:
            pytest.skip("needs PyTriton, which comes with the embedded server: `make setup-dev` on Linux installs it")
        if " " in str(interpreter.pytriton):
            pytest.skip("PyTriton 0.7 splits its server's own path at a blank: run it from a checkout without one")
        library = find_libpython(interpreter).parent
        return [str(interpreter.executable), str(SERVERS / "pytriton_server.py"), str(port)], {
            "LD_LIBRARY_PATH": str(library)
        }
    try:
        python = make(name)
    except (RuntimeError, OSError) as exc:
        pytest.skip(f"needs {name}: {sys.executable} scripts/foreign_servers.py {name} (it said: {exc})")
    if name == "mlserver":
        _lay_out_mlserver(folder, port)
        return [str(python.with_name("mlserver")), "start", str(folder)], {}
    return [str(python), str(SERVERS / f"{name}_server.py"), str(port)], {
        "DYN_TCP_RPC_HOST": "127.0.0.1", "DYN_FILE_KV": str(folder / "discovery"),
    }  # fmt: skip


def _lay_out_mlserver(folder: Path, port: int) -> None:
    shutil.copy(SERVERS / "mlserver_model.py", folder / "doubling.py")
    settings = {
        "host": "127.0.0.1", "grpc_port": port, "http_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0,
    }  # fmt: skip
    model = {
        "name": _DEMO_MODEL, "implementation": "doubling.Adder",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))


def _port() -> int:
    """Return a port that is free, as are the two after it: below those that the system gives to connections, which come
    at any moment."""
    ports = list(range(20_000, 32_000, 3))
    random.shuffle(ports)
    return next(port for port in ports if all(_is_free(port + more) for more in range(3)))


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def network_namespace(name: str) -> Iterator[tuple[str, ...]]:
    """Make a network of its own, where listening on all addresses reaches nobody."""
    ip = shutil.which("ip")
    namespace = f"wa-{name}-{os.getpid()}"
    listener = name.partition("-")[0]
    why = f"{listener} listens on all addresses: run as root with iproute2, for a network namespace of its own"
    if ip is None or subprocess.run([ip, "netns", "add", namespace], capture_output=True).returncode:
        pytest.skip(why)
    try:
        way = (ip, "netns", "exec", namespace)
        if subprocess.run([*way, ip, "link", "set", "lo", "up"], capture_output=True).returncode:
            pytest.skip(why)
        yield way
    finally:
        subprocess.run([ip, "netns", "del", namespace], check=True)


def _wait(running: Running, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server says that its model is ready: it tells of that by no other sign."""
    ends = time.monotonic() + _READY_S
    while running.run("health", "-o", f"model={_DEMO_MODEL}").code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        assert process.poll() is None, f"{running.name} ended by itself:\n{tail}"
        assert time.monotonic() < ends, f"{running.name} was not ready within {_READY_S:g} s:\n{tail}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started, and itself if it did not end
    process.wait(_STOP_S)
