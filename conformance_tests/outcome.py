"""What a check says by raising, and what its run comes to."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Status(StrEnum):
    """What became of one requirement in one run."""

    PASSED = "passed"
    FAILED = "failed"
    DEVIATION = "deviation"
    """It failed, as the deviations file says it would."""
    UNEXPECTED_PASS = "unexpected_pass"
    """It passed although the deviations file says that it fails: the entry has to go."""
    NOT_APPLICABLE = "not_applicable"
    """It is about a capability that the adapter does not declare, or about one that it does."""
    SKIPPED = "skipped"
    """The harness cannot do what the check needs."""
    BLOCKED = "blocked"
    """Something that another requirement is about went wrong before the check could try its own."""
    BROKEN = "broken"
    """The harness raised."""
    NOT_RUN = "not_run"
    """It was deselected, or its test was deleted or overridden."""


class EngineDeath(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that died by itself while a check ran: how, as the harness told it, and if it was started anew."""

    requirement: str
    reason: str
    revived: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the check of one requirement ended; `reason` is empty when it passed."""

    requirement: str
    status: Status
    reason: str = ""
    duration_s: float = 0.0
    check: str | None = None
    engine_deaths: tuple[EngineDeath, ...] = ()


class Verdict(Exception):
    """Base of what a check raises to end with something other than `passed`."""

    status = Status.FAILED

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Failed(Verdict):
    """The adapter does not do what the requirement demands."""


class Skipped(Verdict):
    """The harness cannot do what the check needs. Raise it in a harness method that depends on circumstances."""

    status = Status.SKIPPED


class NotApplicable(Verdict):
    """The requirement is not about adapters with, or without, this capability."""

    status = Status.NOT_APPLICABLE


class Blocked(Verdict):
    """The check could not get as far as its own requirement, because of what another one is about."""

    status = Status.BLOCKED


class HarnessBroke(Verdict):
    """A method of the harness raised: nothing is learnt about the adapter."""

    status = Status.BROKEN


def expect(condition: object, message: str) -> None:
    """Fail the check with `message` unless `condition` holds; unlike `assert`, also under `python -O`."""
    if not condition:
        raise Failed(message)
