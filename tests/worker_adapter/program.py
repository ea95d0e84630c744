"""Runs the real program as its users do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import termios
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from adapter_api import Error, TokenEvent, decode_event
from tests.worker_adapter.processes import PROGRAM, start

__all__ = ["DEADLINE_S", "PROGRAM", "Finished", "Running", "environment", "is_gone", "run"]

DEADLINE_S = 60.0
# Of the mock adapter's.
_LONGEST_EVENT = 400
# Variables of whoever runs the tests that would change what the program does.
_MEANINGFUL = ("WORKER_ADAPTER_", "TRITON_", "ORCHD_", "PYTHON")
# Which server the tests run on is theirs to say.
_KEPT = ("TRITON_SERVER_BINARY", "TRITON_SERVER_PYTHON")


@dataclass(frozen=True)
class Finished:
    """How the program ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[TokenEvent]:
        return [decode_event(line) for line in self.out.splitlines()]

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> Error:
        """The one event on standard output, an error."""
        (event,) = self.events
        assert isinstance(event, Error)
        return event


class Running:
    """The program while it runs; it is killed at the end of the `with` block if it is still there."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._process = start(arguments, environment(env), stdin=subprocess.DEVNULL)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def line(self) -> str:
        """Return the next line of standard output, as soon as it is there."""
        while b"\n" not in self._unread:
            self._unread += self._read()
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def some_output(self) -> str:
        """Return what is on standard output next, however much it is."""
        return self._read().decode(errors="replace")

    def wait_until_it_says(self, words: str) -> str:
        """Return what is on standard error, once the words are there; it is not in `finish`."""
        assert self._process.stderr is not None
        said = b""
        while words.encode() not in said:
            ready, _, _ = select.select([self._process.stderr], [], [], DEADLINE_S)
            assert ready, f"the program did not say {words!r} in time"
            found = os.read(self._process.stderr.fileno(), 65536)
            assert found, f"the program ended: {said.decode()}"
            said += found
        return said.decode()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def hang_up(self) -> None:
        """Stop reading standard output, as `head` does."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_until_its_output_is_stuck(self) -> None:
        """Return when a pipe of the smallest size that holds what is there is so full that no event fits into it."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        size = _shrunk(pipe)
        waiting = array("i", [0])
        deadline = time.monotonic() + DEADLINE_S
        while waiting[0] < size - _LONGEST_EVENT:
            assert time.monotonic() < deadline, "the program did not fill the pipe in time"
            # Nobody tells when a pipe is full, so look now and then.
            select.select([], [], [], 0.01)
            fcntl.ioctl(pipe, termios.FIONREAD, waiting)

    def signal_in_its_write(self, number: int) -> None:
        """Send a signal to a program that is stuck in a write, and return when it has taken it and is stuck anew.

        Python takes a signal between two system calls: of one that comes just before the second it hears with the next.
        """
        before = self._pauses()
        self.signal(number)
        deadline = time.monotonic() + DEADLINE_S
        while self._pauses() == before:
            assert time.monotonic() < deadline, "the program did not take the signal in time"
            select.select([], [], [], 0.01)

    def _pauses(self) -> str:
        """How often the main thread has waited for something, as the kernel counts."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))

    def exit_code(self) -> int:
        """Wait for the end without reading what the program wrote."""
        return self._process.wait(DEADLINE_S)

    def finish(self) -> Finished:
        """Wait for the end."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            assert self._process.stderr is not None
            err = self._process.stderr.read()
            self._process.wait(DEADLINE_S)
            return Finished(self._process.wait(), "", err.decode())
        out, err = self._process.communicate(timeout=DEADLINE_S)
        return Finished(self._process.wait(), (self._unread + out).decode(), err.decode())

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
        assert ready, "the program wrote nothing in time"
        found = os.read(self._process.stdout.fileno(), 65536)
        if not found:
            assert self._process.stderr is not None
            raise AssertionError(f"the program ended: {self._process.stderr.read().decode()}")
        return found


def run(*arguments: str, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> Finished:
    """Run the program to its end."""
    process = start(arguments, environment(env), stdin=subprocess.PIPE)
    try:
        out, err = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, DEADLINE_S)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return Finished(process.wait(), out.decode(), err.decode())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without what would make the program behave otherwise, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_MEANINGFUL)}
    return {**kept, "COLUMNS": "200", **(extra or {})}


def is_gone(pid: int) -> bool:
    """Return whether the process has ended, waiting for it for a while."""
    deadline = time.monotonic() + DEADLINE_S
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0])
    finally:
        os.close(fd)


def _shrunk(pipe: int) -> int:
    """Give a pipe the least size that holds what was written into it already; returns that size."""
    size = 4096
    while True:
        try:
            return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            size *= 2
