"""Wait, in the thread of a test, for what happens on the event loop of the fake."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Changes:
    """A bell that rings whenever something changed that a test may be waiting for."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def ring(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def wait_until(self, predicate: Callable[[], object], timeout_s: float) -> None:
        """Return once `predicate()` is true, asking again after every change.

        Raises:
            TimeoutError: It was not true within `timeout_s`.
        """
        with self._condition:
            if not self._condition.wait_for(predicate, timeout_s):
                raise TimeoutError(f"what the test waits for did not happen within {timeout_s:g} s")
