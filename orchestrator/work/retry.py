"""When a task may move to another replica, and how long it waits before it meets the same one again. No I/O."""

from __future__ import annotations

from random import Random

from adapter_api import Culprit, Error, judge
from orchestrator.config.settings import RetrySettings


def may_move(error: Error, *, trial: bool = False) -> bool:
    """Return whether a task that has shown nothing may be sent on after `error`.

    `trial` says that it was let through to find out whether its model works again: that it does not is no news, and
    must not cost the task, whatever the error says of it.
    """
    judgement = judge(error)
    return judgement.moves_task(error) or (trial and judgement.condemns is Culprit.MODEL)


def may_stay(error: Error) -> bool:
    """Return whether the same replica may be asked again, a little later, when there is no other."""
    return error.retryable and judge(error).moves == "anywhere"


def backoff_s(settings: RetrySettings, rounds: int, random: Random) -> float:
    """Return the seconds to wait before a round over replicas that were all tried `rounds` times; half is jitter."""
    longest = min(settings.backoff_s * float(2 ** min(rounds - 1, 16)), settings.max_backoff_s)
    return longest * (0.5 + random.random() / 2)
