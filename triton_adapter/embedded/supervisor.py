"""Run one server process and leave nothing of it behind; executed as a script, standard library only.

`python -I -S supervisor.py '{"command": […], "parent": PID, "grace_s": 10, "shm_prefix": "…", "work_dir": "…",
"python_only": true, "report_fd": N}'`

The server outlives neither us (PR_SET_PDEATHSIG) nor the process that started us (its pidfd), however those two end.
The supervisor sits in a session of its own, so a Ctrl-C in the terminal reaches only the program that owns the server.
Being a subreaper, it collects the server's own children too.

It writes the server's pid to `report_fd`, or why it could not be started; stops the server on SIGTERM, with SIGKILL to
its process group after `grace_s`; and exits with the server's status. With `python_only` every model is a child process
of the server: once those have ended in order there is nothing left to wait for. Nor is there for long once the server
says that no request is left: Triton 2.51 waits in vain for a model that once was sent a stream request it refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_CHECK_S = 1.0
_REAP_S = 5.0
_MODELS_CHECK_S = 0.05
# For the last answers to leave the server.
_FLUSH_S = 0.2
# For models to finalize once no request is left, and what the server says then.
_FINALIZE_S = 3.0
_NO_REQUEST_LEFT = b"All models are stopped, unloading models"


class Supervisor:
    def __init__(self, order: dict[str, Any]) -> None:
        self._command: list[str] = order["command"]
        self._parent: int = order["parent"]
        self._grace_s: float = order["grace_s"]
        self._shm_prefix: str = order["shm_prefix"]
        self._work_dir: str = order["work_dir"]
        self._python_only: bool = order["python_only"]
        self._report_fd: int = order["report_fd"]
        self._server = 0
        self._status: int | None = None
        self._kill_at: float | None = None
        self._finalizing = False
        self._said_before = 0
        self._asked_to_stop = False

    def run(self) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        poll = select.poll()
        poll.register(self._wakeups(), select.POLLIN)
        parent_fd = -1
        with contextlib.suppress(OSError):
            # Not on kernels before 5.3 nor in every sandbox; asking for the parent's pid once a second does as well.
            parent_fd = os.pidfd_open(self._parent)
            poll.register(parent_fd, select.POLLIN)
        self._server, trouble = self._start(libc)
        with contextlib.suppress(OSError):
            os.write(self._report_fd, f"{trouble or self._server}\n".encode())
        os.close(self._report_fd)
        while self._status is None:
            if any(fd == parent_fd for fd, _ in poll.poll(self._poll_ms())):
                poll.unregister(parent_fd)  # it stays readable: the wait for the server would be none
            self._drain_wakeups()
            self._reap()
            if self._status is None:
                self._stop_when_due()
        self._end_orphans()
        self._remove_shared_memory()
        if not self._parent_lives():
            shutil.rmtree(self._work_dir, ignore_errors=True)
        return os.waitstatus_to_exitcode(self._status)

    def _wakeups(self) -> int:
        self._read_fd, write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        return self._read_fd

    def _ask_to_stop(self, *_: object) -> None:
        self._asked_to_stop = True

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)

    def _start(self, libc: ctypes.CDLL) -> tuple[int, str]:
        """Return the server's pid once its program runs, and what prevented that, if anything did."""
        supervisor = os.getpid()
        # Closed by the exec, so the end of this pipe means that the program runs.
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write_fd)
            with open(read_fd, encoding="utf-8") as trouble:
                return pid, trouble.read()
        try:
            os.close(self._report_fd)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            # We are single-threaded, so the death that counts is that of the process, not of some thread.
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() == supervisor:
                os.execv(self._command[0], self._command)
        except OSError as error:
            os.write(write_fd, f"cannot run {self._command[0]}: {error}".encode())
        os._exit(127)

    def _poll_ms(self) -> float:
        if self._kill_at is None:
            return 1000 * _PARENT_CHECK_S
        due = self._kill_at - time.monotonic()
        return 1000 * max(0.0, min(_MODELS_CHECK_S if self._python_only else _PARENT_CHECK_S, due))

    def _parent_lives(self) -> bool:
        return os.getppid() == self._parent

    def _reap(self) -> bool:
        """Collect what has died, without waiting. Return whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._server:
                self._status = status

    def _stop_when_due(self) -> None:
        if self._kill_at is None:
            if self._asked_to_stop or not self._parent_lives():
                self._kill_at = time.monotonic() + self._grace_s
                self._said_before = os.fstat(1).st_size
                self._signal_group(signal.SIGCONT)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._server, signal.SIGTERM)
        elif time.monotonic() >= self._kill_at:
            self._signal_group(signal.SIGKILL)
            self._kill_at += _PARENT_CHECK_S
        elif self._python_only and not any(map(_lives, _children(self._server))):
            self._python_only = False
            self._kill_at = min(self._kill_at, time.monotonic() + _FLUSH_S)
        elif self._python_only and not self._finalizing and self._no_request_left():
            self._finalizing = True
            self._kill_at = min(self._kill_at, time.monotonic() + _FINALIZE_S)

    def _no_request_left(self) -> bool:
        """Look for the server's word in the log, which is our standard output too."""
        try:
            with open("/proc/self/fd/1", "rb") as log:
                log.seek(self._said_before)
                return _NO_REQUEST_LEFT in log.read()
        except OSError:
            return False

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._server, number)

    def _end_orphans(self) -> None:
        """Kill and collect the server's own children, which are ours now, even those that left its process group."""
        give_up_at = time.monotonic() + _REAP_S
        self._signal_group(signal.SIGKILL)
        while self._reap() and time.monotonic() < give_up_at:
            for pid in _children(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _remove_shared_memory(self) -> None:
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            with contextlib.suppress(OSError):
                region.unlink()


def _children(pid: int) -> list[int]:
    children = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        # Threads come and go while we look.
        with contextlib.suppress(OSError):
            children += [int(child) for child in listing.read_text().split()]
    return children


def _lives(pid: int) -> bool:
    try:
        # The name in parentheses may hold anything; the state follows the last of them.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    status = Supervisor(json.loads(sys.argv[1])).run()
    # A status below zero is a signal's number; the shell's convention tells it from an ordinary status.
    sys.exit(status if status >= 0 else 128 - status)
