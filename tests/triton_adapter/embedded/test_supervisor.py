"""What stands between a program and its server, with a server that is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from triton_adapter.embedded import supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded Triton runs on Linux only")

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
OWNER = """
import json, os, subprocess, sys
order = json.loads(sys.argv[2])
read_fd, write_fd = os.pipe()
order |= {"parent": os.getpid(), "report_fd": write_fd}
with open(sys.argv[3], "wb") as log:
    started = subprocess.Popen(
        [sys.executable, "-I", "-S", sys.argv[1], json.dumps(order)],
        stdout=log, stderr=log, pass_fds=(write_fd,), start_new_session=True,
    )
print(started.pid, flush=True)
sys.stdin.read()
"""
GRACE_S = 1.5


def cpu_of(pid: int) -> float | None:
    """Return the CPU time of a process in seconds; `None` once there is no such process, or only its status."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_waits_in_peace_for_a_server_that_takes_its_time_after_the_program_died(tmp_path: Path) -> None:
    order = {
        "command": [sys.executable, "-c", STUBBORN], "grace_s": GRACE_S, "shm_prefix": f"none-{os.getpid()}-",
        "work_dir": str(tmp_path / "work"), "python_only": False,
    }  # fmt: skip
    log = tmp_path / "server.log"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(supervisor.__file__), json.dumps(order), str(log)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        ends = time.monotonic() + 30
        while not (log.exists() and "up" in log.read_text()):
            assert time.monotonic() < ends
            time.sleep(0.01)  # a log tells of itself by nothing else
        before = cpu_of(pid)
        owner.kill()
    took = before
    while (now := cpu_of(pid)) is not None:
        took = now
        assert time.monotonic() < ends
        time.sleep(0.01)  # nor does a process that is not ours

    assert before is not None
    assert took is not None
    assert took - before < GRACE_S / 5
