"""The server's process as its owner sees it: the supervisor is our child, the server the supervisor's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import finalize

from adapter_api.errors import EngineFailed

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
# What the supervisor may need beyond the grace period to kill, collect and tidy up.
_TIDY_S = 8.0
_PAUSE_S = 5.0


class ServerProcess:
    """A running server. `stop` or `kill` it; when this object or the interpreter goes away it is stopped as well.

    Args:
        command: Absolute path of the program, and its arguments.
        grace_s: Seconds between SIGTERM and SIGKILL.
        shm_prefix: What the names of the server's `/dev/shm` files begin with; they are removed at the end.
        work_dir: Folder that is removed if this process dies before it can do so itself.
        python_only: Whether the Python backend is the only one, which makes for a faster stop.

    Raises:
        EngineFailed: The program could not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_file: Path,
        grace_s: float,
        shm_prefix: str,
        work_dir: Path,
        python_only: bool,
    ) -> None:
        read_fd, write_fd = os.pipe()
        order = {
            "command": list(command),
            "parent": os.getpid(),
            "grace_s": grace_s,
            "shm_prefix": shm_prefix,
            "work_dir": str(work_dir),
            "python_only": python_only,
            "report_fd": write_fd,
        }
        try:
            with open(log_file, "ab") as log:
                self._supervisor = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_SUPERVISOR), json.dumps(order)],
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[write_fd],
                    start_new_session=True,
                )
        finally:
            os.close(write_fd)
        with open(read_fd, encoding="utf-8") as report:
            reported = report.readline().strip()
        if not reported.isdecimal():
            self._supervisor.wait()
            raise EngineFailed(reported or f"the supervisor of {command[0]} could not start; see {log_file}")
        self.pid = int(reported)
        self._finalizer = finalize(self, _end, self._supervisor, self.pid, grace_s, os.getpid())

    @property
    def exit_code(self) -> int | None:
        """The server's exit status, 128 + N if signal N ended it; `None` while it runs."""
        return self._supervisor.poll()

    def dead_children(self) -> set[int]:
        """Return the pids of the server's children that have ended and that it has not collected."""
        children = set()
        for listing in Path(f"/proc/{self.pid}/task").glob("*/children"):
            # Threads come and go while we look.
            with contextlib.suppress(OSError):
                children |= {int(pid) for pid in listing.read_text().split()}
        return {pid for pid in children if _state(Path(f"/proc/{pid}")) == "Z"}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its children; nothing happens when they are gone."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def pause(self) -> None:
        """Freeze the server and its children; return when every thread of the server has stopped."""
        self.signal(signal.SIGSTOP)
        give_up_at = time.monotonic() + _PAUSE_S
        while any(_state(path) != "T" for path in Path(f"/proc/{self.pid}/task").glob("*")):
            if time.monotonic() >= give_up_at:
                raise EngineFailed(f"the server (process {self.pid}) did not stop within {_PAUSE_S:g} s")
            time.sleep(0.001)

    def stop(self) -> None:
        """Ask the server to end, kill it after the grace period, and return when nothing of it is left."""
        self._finalizer()

    def kill(self) -> None:
        """End the server as a crash would, and return when nothing of it is left."""
        self.signal(signal.SIGKILL)
        self._finalizer()


def _state(process: Path) -> str:
    """Return the state letter of a process or thread, given its folder in /proc; "T" is stopped, "Z" a zombie."""
    try:
        # The name in parentheses may hold anything; the state follows the last of them.
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _end(supervisor: subprocess.Popen[bytes], server: int, grace_s: float, owner: int) -> None:
    # A fork of the owner holds a copy of this object, and its end must not stop the owner's server.
    if os.getpid() != owner:
        return
    if supervisor.poll() is None:
        supervisor.terminate()
    try:
        supervisor.wait(grace_s + _TIDY_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server, signal.SIGKILL)
        supervisor.kill()
        supervisor.wait()
