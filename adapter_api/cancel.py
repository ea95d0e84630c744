"""What came of a cancel."""

from __future__ import annotations

from typing import Literal

import msgspec

CancelMode = Literal["hard", "on_next_chunk", "client_only"]


class CancelReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a cancel did, as three separate facts, and what it could do at best.

    found: a task of that `job_id` was running here.
    sent: the engine was told.
    acknowledged: the task's stream is over; no token comes after this.
    released: the engine let the slot go; `None` when it cannot be seen.
    after_ms: milliseconds from the call to the receipt.
    mode: what this transport and model promise: `hard` stops the engine, `on_next_chunk` stops it when it next
        produces something, `client_only` only stops listening. `None` when no task was found.
    """

    found: bool
    sent: bool = False
    acknowledged: bool = False
    released: bool | None = None
    after_ms: float = 0.0
    mode: CancelMode | None = None
