"""What compiles and installs for the tests ends in its time, with all that it started."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest
from whole_runs import run_whole

no_spec = "about the tools of this repository"

COMPILER = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("compiling", flush=True)
if os.fork() == 0 or sys.argv[2] == "hangs":
    held = os.open(sys.argv[1], os.O_WRONLY)
    while True:
        pass
os.close(os.open(sys.argv[1], os.O_WRONLY))
"""
"""Its child spins, has its output open, and does not hear SIGTERM; whoever spins has a pipe open that we watch."""


@pytest.mark.parametrize("how", ["hangs", "ends"])
def test_nothing_that_a_command_started_is_left(tmp_path: Path, how: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        command = [sys.executable, "-c", COMPILER, str(pipe), how]
        if how == "ends":
            run_whole(command, limit_s=30)
        else:
            with pytest.raises(RuntimeError, match=r"(?s)was killed, with all it started, after 1 s.*compiling"):
                run_whole(command, limit_s=1)
        watched = select.poll()
        watched.register(reader, 0)
        assert watched.poll(10_000) == [(reader, select.POLLHUP)], "somebody has it open still"
    finally:
        os.close(reader)


def test_a_command_that_ends_well_is_let_be(tmp_path: Path) -> None:
    run_whole([sys.executable, "-c", "open('made', 'w')"], limit_s=30, cwd=tmp_path)
    assert (tmp_path / "made").exists()


def test_a_command_that_fails_tells_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3 .*no such package"):
        run_whole([sys.executable, "-c", "print('no such package'); raise SystemExit(3)"], limit_s=30)
