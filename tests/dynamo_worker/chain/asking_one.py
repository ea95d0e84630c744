"""Starts `one_process.py` in a network of its own, and asks it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from foreign_servers import environment_of

from tests.dynamo_worker.chain.one_process import ANSWER
from tests.dynamo_worker.chain.running import HERE, KSERVE, OPENAI, ROOT
from tests.dynamo_worker.chain.scripted import MODELS
from tests.triton_adapter.foreign.running import network_namespace

_WAIT_S, _STOP_S = 30.0, 20.0


class OneProcess:
    """A worker, Dynamo's frontends and their clients, in a process that is asked line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                self._lines.put(line.removeprefix(ANSWER))
        self._lines.put(None)

    def ask(self, what: str, **more: Any) -> Any:
        """Return what a question of `ask.py` is answered."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, more]) + "\n")
        self._process.stdin.flush()
        answer = self._lines.get(timeout=_WAIT_S)
        assert answer is not None, "the process ended"
        return json.loads(answer)

    def asked(self) -> Any:
        """Return what the engine was asked last."""
        return self.ask("engine")["last"]

    def cancelled(self) -> int:
        """Return how many of its requests the engine has seen cancelled."""
        return int(self.ask("engine")["cancelled"])

    def until(self, told: Callable[[], bool], what: str) -> None:
        """Ask until the answer is true: for what a process tells of by nothing but answers."""
        ends = time.monotonic() + _WAIT_S
        while not told():
            assert time.monotonic() < ends, f"not within {_WAIT_S:g} s: {what}"
            time.sleep(0.01)


@contextmanager
def one_process() -> Iterator[OneProcess]:
    """Run one until the end; skips the test where it cannot run, with what to do about that."""
    environment = environment_of("dynamo")
    if not (environment / "complete").exists():
        pytest.skip(f"needs Dynamo's runtime: {sys.executable} scripts/foreign_servers.py dynamo")
    packages = next((environment / "lib").glob("python*/site-packages"))
    env = {
        **os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "DYN_TCP_RPC_HOST": "127.0.0.1", "DYN_LOG": "error",
    }  # fmt: skip
    command = [sys.executable, str(HERE / "one_process.py"), str(KSERVE), str(OPENAI)]
    with (
        network_namespace("dynamo-one") as way,
        subprocess.Popen([*way, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, cwd=ROOT, env=env) as process,
    ):  # fmt: skip
        try:
            made = OneProcess(process)
            made.until(lambda: made.ask("each", models=MODELS) == [200] * len(MODELS), "all models take text")
            made.until(lambda: all(made.ask("ready", models=MODELS)), "all models take tensors")
            yield made
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
