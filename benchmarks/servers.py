"""The servers that benchmarks run against, in processes and, where the machine lets us, on a core of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triton_adapter.embedded import EmbeddedTriton


@contextmanager
def cannon() -> Iterator[str]:
    """Run `cannon.py` and yield its address as `host:port`."""
    with _started("cannon.py") as port:
        yield f"127.0.0.1:{port}"


@contextmanager
def http_cannon() -> Iterator[str]:
    """Run `http_cannon.py` and yield its URL."""
    with _started("http_cannon.py") as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _started(script: str) -> Iterator[int]:
    command = [sys.executable, str(Path(__file__).with_name(script))]
    with _last_core():
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@contextmanager
def triton() -> Iterator[EmbeddedTriton]:
    """Run the embedded Triton with the demo models."""
    server = EmbeddedTriton()
    with _last_core():
        server.start()
    with server:
        yield server


def pin_client() -> str:
    """Keep this process off the servers' core; return in words where it runs. Call it before any thread starts."""
    cores = _cores()
    if len(cores) < 2:
        return "client and server share their cores"
    os.sched_setaffinity(0, cores[:-1])
    return f"client on core {', '.join(map(str, cores[:-1]))}, server on core {cores[-1]}"


@contextmanager
def _last_core() -> Iterator[None]:
    """Put what is started inside on the last core: children inherit where they may run."""
    cores = _cores()
    if len(cores) < 2:
        yield
        return
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def _cores() -> list[int]:
    """Return the cores this program was given, as long as it pins itself only here; none where that is not known."""
    global _given
    if not hasattr(os, "sched_getaffinity"):
        return []
    _given = _given or sorted(os.sched_getaffinity(0))
    return _given


_given: list[int] = []
