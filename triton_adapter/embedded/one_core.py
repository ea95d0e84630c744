"""Keep a server that is ready to one core, lest cancels block it.

Triton takes two of a stream's locks in one order where it writes a response and in the other where it notices a cancel,
so that the two can block each other, and with them every stream of the server, for ever (2.51, seen in a debugger; the
source has it still in 2.73: `StateWriteResponse` and `Process` of its stream_infer_handler.cc). Where its threads share
a core with the models, as batch work that nothing preempts when it wakes up, they hardly meet: one freeze in 10,000
cancels of streams without a pause between tokens, against a freeze or a crash in about 1,000 on two cores.
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

_PASSES = 10
"""Threads start while we look; one that was missed runs on, and what it starts does too."""


def keep_to_one_core(pid: int) -> None:
    """Give all threads of the process `pid` and of its children one core of ours; what they start inherits it.

    Where this is not allowed nothing happens: the server then runs as any other would.
    """
    # Any core, so that several servers do not meet on one.
    core = random.choice(sorted(os.sched_getaffinity(0)))
    for _ in range(_PASSES):
        elsewhere = [thread for thread in _threads(pid) if not _is_on(core, thread)]
        if not elsewhere:
            return
        for thread in elsewhere:
            # It may have ended.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, {core})
                if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                    os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


def _is_on(core: int, thread: int) -> bool:
    try:
        return os.sched_getaffinity(thread) == {core}
    except OSError:
        return True


def _threads(pid: int) -> list[int]:
    """Return the ids of all threads of a process and of what it started."""
    threads = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        threads.append(int(task.name))
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                threads += _threads(int(child))
    return threads
