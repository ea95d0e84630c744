"""When and how often something is tried again."""

from __future__ import annotations

import asyncio
import random

from adapter_api import AdapterError, ConnectFailed, ConnectionLost

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Retries:
    """Counts the attempts of one task.

    Tried again are connections that could not be made, and connections lost before anything came back; what the
    engine itself refused is for the caller to send elsewhere, unless there is no elsewhere. Pauses double and are
    jittered, so that a thousand tasks do not come back at the same moment.

    Args:
        attempts: How many repetitions there may be.
        here_only: The caller has no other engine: what this one refuses for now is tried again too, after the time that
            it asks for. Only for work that may run twice.
    """

    __slots__ = ("_here_only", "_left", "_pause_s")

    def __init__(self, attempts: int, *, here_only: bool = False) -> None:
        self._left = attempts
        self._here_only = here_only
        self._pause_s = _FIRST_PAUSE_S

    async def again(self, error: AdapterError, *, unsent_only: bool = False, ends: float | None = None) -> bool:
        """Return whether to try again after `error`, when the pause before that is over.

        Args:
            error: What the last attempt came to.
            unsent_only: Only when the engine provably never saw it: for what must not happen twice.
            ends: Event-loop time after which no attempt is worth making.
        """
        repeatable = ConnectFailed if unsent_only else (ConnectFailed, ConnectionLost)
        if self._left == 0 or not (isinstance(error, repeatable) or (self._here_only and error.retryable)):
            return False
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        if self._here_only and error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        if ends is not None and asyncio.get_running_loop().time() + pause_s >= ends:
            return False
        self._left -= 1
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)
        return True
