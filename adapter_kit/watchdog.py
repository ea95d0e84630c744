"""The adapter's own deadlines, cheap enough to watch every token: those of all tasks are on one timer."""

from __future__ import annotations

from collections.abc import Callable

from adapter_api import DeadlineExceeded, DeadlineStage
from adapter_api.wheel import Slot, wheel


class Watchdog:
    """Cancels a call when the engine is silent for too long, and remembers which deadline that was.

    Silence counts only while somebody waits for the engine: a slow consumer is not the engine's fault. Whoever reads
    sets `waiting_since` before the read and `None` after it, and `first_seen` once output came.
    """

    __slots__ = (
        "_ends", "_first_s", "_gap_s", "_on_expiry", "_slot", "_total_s", "_wheel", "first_seen", "stage",
        "waiting_since",
    )  # fmt: skip

    def __init__(
        self, on_expiry: Callable[[], None], *, first_token_s: float, inter_token_s: float, ends: float, total_s: float
    ) -> None:
        self._wheel = wheel()
        self._on_expiry = on_expiry
        self._first_s = first_token_s
        self._gap_s = inter_token_s
        self._ends = ends
        self._total_s = total_s
        self._slot: Slot | None = None
        self.waiting_since: float | None = None
        self.first_seen = False
        self.stage: DeadlineStage | None = None
        """Which deadline ran out; `None` as long as none did."""

    def start(self) -> None:
        """Begin to watch."""
        patience, left = min(self._first_s, self._gap_s), self._ends - self._wheel.now()
        self._slot = self._wheel.after(patience if patience < left else left, self)

    def stop(self) -> None:
        """Watch no longer, for good."""
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None
        # Who is called usually holds this watchdog: without the circle both go at once.
        self._on_expiry = _nobody

    def error(self, what: str) -> DeadlineExceeded:
        """Return the error for the deadline that ran out."""
        if self.stage == "first_token":
            return DeadlineExceeded(
                f"{what} produced nothing within {self._first_s:g} s (`first_token_timeout_s`)", stage="first_token"
            )
        if self.stage == "inter_token":
            return DeadlineExceeded(
                f"{what} fell silent for {self._gap_s:g} s in the middle of its answer (`inter_token_timeout_s`)",
                stage="inter_token",
            )
        return DeadlineExceeded(f"{what} did not finish within the task's {self._total_s:g} s", stage="total")

    def time_is_up(self) -> None:
        """See whether it is: the wheel calls this when it may be."""
        self._slot = None
        now = self._wheel.now()
        limit = self._gap_s if self.first_seen else self._first_s
        since = self.waiting_since
        if now >= self._ends:
            self.stage = "total"
        elif since is not None and now - since >= limit:
            self.stage = "inter_token" if self.first_seen else "first_token"
        else:
            wake = min((now if since is None else since) + limit, self._ends)
            if not self.first_seen:
                # The first output may come at any moment, and the shorter patience begins then.
                wake = min(wake, now + self._gap_s)
            self._slot = self._wheel.after(wake - now, self)
            return
        self._on_expiry()


def _nobody() -> None:
    """Nobody is to be told any more."""
