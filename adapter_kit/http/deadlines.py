"""The deadlines of one exchange, by stage, on the timer wheel: it costs a chunk nothing but a look at the clock."""

from __future__ import annotations

from adapter_api import DeadlineExceeded, DeadlineStage
from adapter_api.wheel import Slot, wheel
from adapter_kit.http.connection import Connection


class Deadlines:
    """Ends an exchange whose time is up.

    Args:
        where: The engine's address, for messages.
        ends: When the whole has to be over, in the event loop's time; `total_s` is how long that was, for messages.
        stage: What `ends` is called in the error.
        headers_s: How long the headers of the answer may take.
        stall_s: How long a reader may wait for the next bytes of a body. Time in which nobody reads does not count.
    """

    __slots__ = (
        "_began", "_connection", "_ends", "_headers_s", "_slot", "_stage", "_stall_s", "_total_s", "_wheel", "_where",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        where: str,
        *,
        ends: float,
        total_s: float,
        stage: DeadlineStage,
        headers_s: float | None,
        stall_s: float | None,
    ) -> None:
        self._wheel = wheel()
        self._connection = connection
        self._where = where
        self._ends = ends
        self._total_s = total_s
        self._stage: DeadlineStage = stage
        self._headers_s = headers_s
        self._stall_s = stall_s
        self._began = now = self._wheel.now()
        self._slot: Slot | None = self._wheel.after(min(ends, self._due(now)) - now, self)

    def stop(self) -> None:
        """Watch no longer."""
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None

    def _due(self, now: float) -> float:
        """Return when the stage that the exchange is in is over, at the earliest."""
        received = self._connection.received
        if received is not None and received.head_done:
            waiting_since = self._connection.waiting_since
            return (now if waiting_since is None else waiting_since) + (self._stall_s or float("inf"))
        # Headers may come at any time, and their body stall from then on.
        until_headers = float("inf") if self._headers_s is None else self._began + self._headers_s
        return until_headers if self._stall_s is None else min(until_headers, now + self._stall_s)

    def time_is_up(self) -> None:
        """See whether it is: the wheel calls this when it may be."""
        self._slot = None
        now = self._wheel.now()
        received = self._connection.received
        head_done = received is not None and received.head_done
        if received is None or received.complete:
            return
        if now >= self._ends:
            self._connection.abort(
                DeadlineExceeded(f"{self._where}: not done within {self._total_s:g} s", stage=self._stage)
            )
        elif head_done and self._stall_s is not None and now >= self._due(now):
            self._connection.abort(
                DeadlineExceeded(
                    f"{self._where} fell silent for {self._stall_s:g} s in the middle of its answer",
                    stage="inter_token",
                )
            )
        elif not head_done and self._headers_s is not None and now >= self._began + self._headers_s:
            self._connection.abort(
                DeadlineExceeded(f"{self._where} answered nothing within {self._headers_s:g} s", stage="first_token")
            )
        else:
            self._slot = self._wheel.after(min(self._ends, self._due(now)) - now, self)
