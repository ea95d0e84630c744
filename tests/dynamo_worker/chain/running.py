"""A Dynamo cluster in a network of its own: workers, frontends and Triton are processes there, as are the clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from foreign_servers import environment_of, make

from tests.triton_adapter.foreign.running import network_namespace

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
KSERVE, OPENAI, HEALTH = 18101, 18102, 18110
"""Ports in the cluster's own network, where nobody else listens."""
_READY_S, _ASK_S, _STOP_S = 90.0, 60.0, 20.0
T = TypeVar("T")


class Cluster:
    """Starts the cluster's processes, and asks it."""

    def __init__(self, way: Sequence[str], folder: Path) -> None:
        self._way, self.folder = tuple(way), folder
        self._started: list[subprocess.Popen[bytes]] = []
        packages = next((environment_of("dynamo") / "lib").glob("python*/site-packages"))
        store = folder / "store"
        store.mkdir()
        self._env = {
            **os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "DYN_TCP_RPC_HOST": "127.0.0.1", "DYN_LOG": "error",
            "DYN_FILE_KV": str(store), "DYN_STORE_KV": "file", "NO_COLOR": "1", "COLUMNS": "200",
        }  # fmt: skip

    def start(self, name: str, *command: str, until: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a command of Python, and return when `until` stands in what it writes."""
        return self.run(name, sys.executable, *command, until=until, **env)

    def program(self, *arguments: str) -> str:
        """Run a command of the program to its end, and return what it wrote."""
        command = [*self._way, sys.executable, "-m", "worker_adapter", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, cwd=ROOT, env=self._env)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def run(self, name: str, *command: str, until: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a command, and return when `until` stands in what it writes."""
        log = self.folder / name
        with log.open("w") as out:
            process = subprocess.Popen(
                [*self._way, *command], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
                env={**self._env, **env}, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        self.wait_for(name, until, process)
        return process

    def worker(self, name: str, *options: str, until: str = "serving", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker by the program."""
        return self.start(name, "-m", "worker_adapter", "dynamo-worker", *options, until=until, **env)

    def wait_for(self, name: str, text: str, process: subprocess.Popen[bytes] | None = None) -> str:
        """Return the line of a log that holds a text, once it does."""
        ends = time.monotonic() + _READY_S
        while True:
            written = (self.folder / name).read_text(errors="replace")
            if found := next((line for line in written.splitlines() if text in line), None):
                return found
            tail = "\n".join(written.splitlines()[-15:])
            assert process is None or process.poll() is None, f"{name} ended by itself:\n{tail}"
            assert time.monotonic() < ends, f"{name} did not write {text!r} within {_READY_S:g} s:\n{tail}"
            time.sleep(0.05)  # a log tells of itself by nothing else

    def ask(self, what: str, **more: Any) -> Any:
        """Return what a question of `ask.py` is answered, on the frontends' ports."""
        ended = subprocess.run(
            [*self._way, sys.executable, str(HERE / "ask.py"), what, json.dumps(more)],
            capture_output=True, text=True, timeout=_ASK_S, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-3000:]
        return json.loads(ended.stdout)

    @contextmanager
    def asking(self, what: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
        """Start a question, whose answer is its output; `answer` waits for it."""
        with subprocess.Popen(
            [*self._way, sys.executable, str(HERE / "ask.py"), what, json.dumps(more)], text=True, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def answer(self, asking: subprocess.Popen[str]) -> Any:
        """Tell a question that it is enough, and return its answer."""
        out, err = asking.communicate(timeout=_ASK_S)
        assert asking.returncode == 0, err[-3000:]
        return json.loads(out)

    def requests(self, port: int) -> int:
        """Return how many requests the worker with that `DYN_SYSTEM_PORT` has answered."""
        _, text = self.ask("fetched", port=port, path="/metrics")
        counts = [line for line in text.splitlines() if line.startswith("dynamo_component_requests_total{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in counts)

    def stop(self) -> None:
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._started):
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(_STOP_S)


def until(told: Callable[[], T], what: str, within_s: float = _READY_S) -> T:
    """Ask until the answer is true, and return it: for what a cluster tells of by nothing but answers."""
    ends = time.monotonic() + within_s
    while not (found := told()):
        assert time.monotonic() < ends, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)  # each question takes a process already
    return found


def served(made: Cluster) -> None:
    """Return when the KServe frontend knows of `addsub`."""
    until(lambda: "outputs" in made.ask("addsub")[0], "the KServe frontend knows of addsub")


def probed(made: Cluster) -> dict[str, int]:
    """Return what `slow` says it has done; nothing as long as it cannot be asked for tensors."""
    (piece,) = made.ask("stream", model="slow", text="x", parameters={"probe": True})
    found: dict[str, int] = json.loads(text) if (text := "".join(piece.get("texts", ()))).startswith("{") else {}
    return found


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Give a cluster without processes; skips the test where there can be none, with what to do about that."""
    try:
        make("dynamo")
    except (RuntimeError, OSError) as exc:
        pytest.skip(f"needs dynamo: {sys.executable} scripts/foreign_servers.py dynamo (it said: {exc})")
    with network_namespace(f"dynamo-{folder.name[-6:]}") as way:
        made = Cluster(way, folder)
        try:
            yield made
        finally:
            made.stop()
