"""Whom an error condemns, and where its task may go next: one table, read by hosts and rendered in `specs/`.

    judge(error).condemns        the task, the model at that replica, the whole replica, or nobody

A host that follows it lets no client and no model take a replica from the others: only what says something about the
replica itself condemns the replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

import msgspec

from adapter_api.errors import DeadlineStage
from adapter_api.events import Error


class Culprit(StrEnum):
    """Who is to be left alone after an error."""

    TASK = "task"
    """Another task fares better at the same place; the same task fares no better anywhere."""
    MODEL = "model"
    """This model at this replica; other models there, and this model elsewhere, are not touched."""
    REPLICA = "replica"
    """Everything there: the way to it, or its right to use it, is at fault."""
    NOBODY = "nobody"
    """It is well and says so: it is busy, not ready, or was closed by its host."""


Moves = Literal["never", "elsewhere", "anywhere"]
Repeat = Literal["no", "yes", "as told"]
Suddenly = Literal["no", "when retryable", "yes"]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of error means to a host.

    `moves` is about a task that has shown nothing yet: whether it may go to other replicas only, or also to the same
    one a little later. `unsent` says that the engine provably did not run it, so that even an inference, which may
    change a state, goes on elsewhere. `repeat` is what the error's `retryable` tells the client. `at_once` says when
    one error is enough to condemn; otherwise several in a row are.
    """

    condemns: Culprit
    moves: Moves = "never"
    whatever_told: bool = False
    """It moves also when the error is not `retryable`: the refusal is about us at that replica, not about the task."""
    unsent: bool = False
    repeat: Repeat = "as told"
    at_once: Suddenly = "no"

    def moves_task(self, error: Error) -> bool:
        """Whether a task that has shown nothing may be sent on after `error`."""
        return self.moves != "never" and (error.retryable or self.whatever_told)

    def condemns_at_once(self, error: Error) -> bool:
        """Whether `error` alone is enough."""
        return self.at_once == "yes" or (self.at_once == "when retryable" and error.retryable)


_TASK = Judgement(condemns=Culprit.TASK, repeat="no")
_HANGS = Judgement(condemns=Culprit.MODEL, moves="anywhere")
_NO_ANSWER = Judgement(condemns=Culprit.REPLICA, moves="anywhere")
_OUT_OF_TIME = Judgement(condemns=Culprit.NOBODY)
_UNKNOWN = Judgement(condemns=Culprit.MODEL)

JUDGEMENTS: Mapping[str, Judgement] = MappingProxyType({
    "invalid_request": _TASK,
    "context_length_exceeded": _TASK,
    "model_not_found": _TASK,
    "unsupported": _TASK,
    "job_conflict": _TASK,
    # Each replica has credentials of its own. Who is not known at all may do nothing there; a right may lack for one
    # model only.
    "unauthenticated": Judgement(
        condemns=Culprit.REPLICA, moves="elsewhere", whatever_told=True, unsent=True, repeat="no", at_once="yes"
    ),
    "permission_denied": Judgement(
        condemns=Culprit.MODEL, moves="elsewhere", whatever_told=True, unsent=True, repeat="no", at_once="yes"
    ),
    "not_ready": Judgement(condemns=Culprit.NOBODY, moves="anywhere", unsent=True, repeat="yes"),
    "overloaded": Judgement(condemns=Culprit.NOBODY, moves="anywhere", unsent=True, repeat="yes"),
    # Retryable is what an adapter says of an engine that is dead: then the next task would only die there, too.
    "engine_failed": Judgement(condemns=Culprit.MODEL, moves="elsewhere", at_once="when retryable"),
    "protocol_violation": Judgement(condemns=Culprit.MODEL),
    "connect_failed": Judgement(condemns=Culprit.REPLICA, moves="anywhere", unsent=True, repeat="yes"),
    "connection_lost": Judgement(condemns=Culprit.REPLICA, moves="anywhere"),
    "stream_incomplete": Judgement(condemns=Culprit.MODEL, moves="anywhere"),
    "closed": Judgement(condemns=Culprit.NOBODY, moves="anywhere", unsent=True),
    "adapter_failed": Judgement(condemns=Culprit.MODEL),
    "invalid_configuration": Judgement(condemns=Culprit.MODEL, repeat="no"),
    "unknown_adapter": Judgement(condemns=Culprit.NOBODY, repeat="no"),
    "plugin_broken": Judgement(condemns=Culprit.NOBODY, repeat="no"),
})  # fmt: skip
"""By code. `deadline_exceeded` is not here: its stage decides."""

DEADLINES: Mapping[DeadlineStage, Judgement] = MappingProxyType({
    "connect": _NO_ANSWER,
    "health": _NO_ANSWER,
    "control": _NO_ANSWER,
    "first_token": _HANGS,
    "inter_token": _HANGS,
    "queue": _OUT_OF_TIME,
    "total": _OUT_OF_TIME,
})  # fmt: skip
"""Of `deadline_exceeded`, by stage. A queue that was too long and a task's own limit say nothing of the engine."""


def judge(error: Error) -> Judgement:
    """Return what an error means; a code that the contract does not have condemns the model there, and nothing else."""
    if error.code == "deadline_exceeded":
        return _HANGS if error.stage is None else DEADLINES[error.stage]
    return JUDGEMENTS.get(error.code, _UNKNOWN)


def render() -> str:
    """Return the table as it stands in the specification of errors, in Markdown."""
    rows = [(f"`{code}`", judgement) for code, judgement in JUDGEMENTS.items()]
    rows += [(f"`deadline_exceeded`, stage `{stage}`", judgement) for stage, judgement in DEADLINES.items()]
    lines = [
        "| error | condemns | one is enough | the task goes on | an inference goes on | the client may repeat it |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in rows:
        when = "" if each.whatever_told or each.moves == "never" else ", if retryable"
        cells = (
            name, each.condemns.value, each.at_once, each.moves + when,
            "elsewhere" + when if each.unsent else "never", each.repeat,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
