"""Run a command to its end, or end it with all that it started: compilers and installers have children of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_SAID = 2000


def run_whole(
    command: Sequence[str | Path], *, limit_s: float, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Return when the command has ended well, at the latest after `limit_s`; nothing that it started is left.

    Raises:
        RuntimeError: It failed or took too long; the message has its last words.
    """
    name = Path(command[0]).name
    # Into a file: who waits for the end of a pipe waits for the last that has it open, not for the command.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # What hangs does not always hear SIGTERM. The group outlives its first, as long as one of it is there.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code == 0:
            return
        said.seek(max(said.seek(0, os.SEEK_END) - _SAID, 0))
        lines = said.read().decode(errors="replace").strip().splitlines()
    how = f"ended with {code}" if code is not None else f"was killed, with all it started, after {limit_s:g} s"
    load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    raise RuntimeError("\n".join([f"{name} {how} ({load})", *lines[-3:]]))
