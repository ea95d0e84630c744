"""What stands in an event is looked at whichever way is taken, the short one or the long."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import pytest

from adapter_api.errors import ProtocolViolation
from adapter_api.events import End, Started, Timings, TokenEvent, Usage
from adapter_api.fields import require_sound

no_spec = "a part of the guard, whose requirements are tested with streams"

STARTED = Started(job_id="j", engine="e", model="m", pool_id="p", queue_position=0, predicted_start_ms=0.0)
TIMINGS = Timings(total_ms=2.0, time_to_first_token_ms=1.0, decode_time_ms=1.0, queue_ms=0.5)
END = End(finish_reason="stop", usage=Usage(tokens_in=1, tokens_out=2), timings=TIMINGS)


@pytest.mark.parametrize(
    "event",
    [STARTED, END, msgspec.structs.replace(STARTED, predicted_start_ms=None, pool_id="größer", seed=7),
     msgspec.structs.replace(END, timings=Timings(total_ms=1))],
)  # fmt: skip
def test_a_sound_event_passes(event: TokenEvent) -> None:
    require_sound(event)


NO_COUNTS: tuple[Any, ...] = (-1, True, 1.5, "1")
NO_TIMES: tuple[Any, ...] = (nan, inf, "0")
NO_TIMINGS: tuple[Any, ...] = ({}, "soon", Usage())
WRONG: list[tuple[TokenEvent, dict[str, Any]]] = [
    *((STARTED, {"queue_position": position}) for position in NO_COUNTS),
    *((STARTED, {"predicted_start_ms": time}) for time in NO_TIMES),
    *((STARTED, {name: "\ud800"}) for name in ("job_id", "pool_id", "replica_id", "engine_version")),
    (STARTED, {"engine": None}),
    *((END, {"timings": timings}) for timings in NO_TIMINGS),
    (END, {"finish_reason": "weary"}),
    (END, {"usage": Usage(tokens_out=-1)}),
]


@pytest.mark.parametrize("event, changes", WRONG)
def test_a_field_that_holds_something_else_is_named(event: TokenEvent, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation, match=next(iter(changes)) + "|tokens_out|Unicode"):
        require_sound(msgspec.structs.replace(event, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"total_ms": None},
        {"total_ms": nan},
        {"queue_ms": inf},
        {"decode_time_ms": "1"},
        {"time_to_first_token_ms": nan},
    ],
)
def test_a_time_that_is_none_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation, match=next(iter(changes))):
        require_sound(msgspec.structs.replace(END, timings=msgspec.structs.replace(TIMINGS, **changes)))
