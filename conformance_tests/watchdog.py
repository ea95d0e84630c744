"""What ends a check that does not give the event loop back: no time limit of the loop's own can.

An adapter that blocks, in a call to an engine that hangs, say, would hold up the whole run for ever. An alarm of the
process raises in the midst of whatever blocks, as often as need be, so that the check comes to its end, mends what it
broke, and is known for what it is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 5.0
"""Seconds after which what blocks is interrupted again, should something have swallowed the first time."""


WAITING = "waiting"
"""What is told instead of a place when nothing blocks the loop: something in it waits, and cannot be cancelled."""

_LOOPS = ("selectors.py", "_io_epoll.py", "_io_kqueue.py", "_run.py", "runners.py", "base_events.py")
"""Files in which event loops wait for something to happen."""


class EventLoopBlocked(TimeoutError):
    """Raised in what blocks the event loop. As an `OSError` it is what adapters expect of a call that fails."""


@contextmanager
def interrupting(after_s: float) -> Iterator[list[str]]:
    """Interrupt the body whenever it takes longer; yields a list that then holds where that was.

    It does nothing outside of the main thread, on systems without such alarms, and where somebody else has set one,
    such as pytest-timeout.
    """
    places: list[str] = []
    over = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        if over:
            return
        place = "nowhere" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
        places.append(WAITING if frame is None or _is_loop_waiting(frame) else place)
        raise EventLoopBlocked(f"the event loop was blocked for {after_s:g} s at {place}")

    if not _is_free():
        yield places
        return
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s, AGAIN_S)
    try:
        yield places
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_free() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, signal.SIG_IGN)
    )


def _is_loop_waiting(frame: FrameType) -> bool:
    """Whether the event loop itself has control: uvloop's is not Python, and shows as whoever runs it."""
    return frame.f_code.co_filename.rpartition("/")[2] in _LOOPS
