"""Processes of the program: forked from one that has its imports behind it, or started anew where that matters."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "worker-adapter")
# What an interpreter looks at when it starts, and only then.
_OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG")


class Process(Protocol):
    """What is used of `subprocess.Popen`."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]: ...
    def send_signal(self, sig: int) -> None: ...


def start(arguments: Sequence[str], environment: Mapping[str, str], *, stdin: int) -> Process:
    """Start the program, with pipes for its output; `stdin` as for `subprocess.Popen`."""
    if hasattr(os, "pidfd_open") and _of_the_interpreter(environment) == _of_the_interpreter(_environ()):
        return Forked(_server(), arguments, environment, stdin=stdin)
    return subprocess.Popen(
        [PROGRAM, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


class Forked:
    """One process of the program; used as `subprocess.Popen` is."""

    def __init__(
        self, server: socket.socket, arguments: Sequence[str], environment: Mapping[str, str], *, stdin: int
    ) -> None:
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        ours, theirs = socket.socketpair()
        stdout, stdout_theirs = os.pipe()
        stderr, stderr_theirs = os.pipe()
        if stdin == subprocess.PIPE:
            stdin_theirs, stdin_ours = os.pipe()
            self.stdin = os.fdopen(stdin_ours, "wb", buffering=0)
        else:
            stdin_theirs = os.open(os.devnull, os.O_RDONLY)
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb", buffering=0)
        self.stderr: IO[bytes] | None = os.fdopen(stderr, "rb", buffering=0)
        streams = [stdin_theirs, stdout_theirs, stderr_theirs]
        socket.send_fds(server, [b"+"], [theirs.fileno(), *streams])
        theirs.close()
        for fd in streams:
            os.close(fd)
        ours.sendall(json.dumps({"arguments": [*arguments], "environment": {**environment}}).encode() + b"\n")
        self._said = ours.makefile("rb")
        ours.close()
        self.pid = int(self._said.readline())
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Return the exit code if the process has ended."""
        return self.returncode if self.returncode is not None else self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code as soon as the process ends."""
        code = self.returncode if self.returncode is not None else self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("worker-adapter", timeout or 0.0)
        return code

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Write `input`, read all output, and wait for the end."""
        left, give_up_at = memoryview(input or b""), time.monotonic() + (timeout or 3600.0)
        assert self.stdout is not None
        assert self.stderr is not None
        found: dict[int, bytearray] = {self.stdout.fileno(): bytearray(), self.stderr.fileno(): bytearray()}
        with selectors.DefaultSelector() as selector:
            for fd in found:
                selector.register(fd, selectors.EVENT_READ)
            if self.stdin is not None:
                selector.register(self.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = selector.select(give_up_at - time.monotonic())
                if not ready and time.monotonic() >= give_up_at:
                    raise subprocess.TimeoutExpired("worker-adapter", timeout or 0.0)
                for key, _ in ready:
                    if key.fd in found:
                        if data := os.read(key.fd, 65536):
                            found[key.fd] += data
                        else:
                            selector.unregister(key.fileobj)
                    else:
                        left = _write_some(key.fd, left)
                        if not left and self.stdin is not None:
                            selector.unregister(self.stdin)
                            self.stdin.close()
        self.wait(max(0.0, give_up_at - time.monotonic()))
        out, err = found.values()
        self.stdout.close()
        self.stderr.close()
        return bytes(out), bytes(err)

    def send_signal(self, sig: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._end, sig)

    def _ended_within(self, timeout: float | None) -> int | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._end, selectors.EVENT_READ)
            if not selector.select(timeout):
                return None
        self.returncode = int(self._said.readline())
        self._said.close()
        os.close(self._end)
        return self.returncode


def _write_some(fd: int, data: memoryview) -> memoryview:
    """Return what is left to write, nothing if nobody reads any more."""
    try:
        return data[os.write(fd, data[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return data[:0]


def _of_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    # The server sees to the folders of modules.
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_OF_THE_INTERPRETER) and name != "PYTHONPATH"
    }


def _environ() -> dict[str, str]:
    """Return our environment without what a developer's shell tells interpreters, which users' shells do not."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@functools.cache
def _server() -> socket.socket:
    """Start the server, once in this process; it ends when this process does."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    script = Path(__file__).with_name("fork_server.py")
    process = subprocess.Popen(
        [sys.executable, script, str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        # Numpy's library starts threads otherwise.
        env={**_environ(), "OPENBLAS_NUM_THREADS": "1"},
        # Not told by the terminal's Ctrl-C.
        start_new_session=True,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(10)

    atexit.register(end)
    return ours
