"""Turns a row of probes into a state that does not flap. No I/O."""

from __future__ import annotations

from adapter_api import HealthReport, HealthState
from orchestrator.config.settings import HealthSettings

TAKES_WORK = frozenset({HealthState.READY, HealthState.DEGRADED})


class Hysteresis:
    """The state of one replica as its probes add up.

    The first good probe brings a replica up. After that `fall` bad ones in a row take it out and `rise` good ones take
    it back. What an engine says of itself (draining, starting, stopped) is believed at once: only silence may be a
    hiccup.
    """

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._good = 0
        self._bad = 0
        self._has_been_up = False
        self.state = HealthState.STARTING
        self.detail = "not probed yet"

    @property
    def takes_work(self) -> bool:
        return self.state in TAKES_WORK

    def observe(self, report: HealthReport) -> bool:
        """Take one report in; returns whether the state changed."""
        before = self.state
        if report.state in TAKES_WORK and report.ready:
            self._observe_good(report)
        else:
            self._observe_bad(report)
        return self.state is not before

    def _observe_good(self, report: HealthReport) -> None:
        self._good, self._bad = self._good + 1, 0
        if self.takes_work or not self._has_been_up or self._good >= self._settings.rise:
            self._has_been_up = True
            self.state, self.detail = report.state, report.detail

    def _observe_bad(self, report: HealthReport) -> None:
        self._good, self._bad = 0, self._bad + 1
        told = report.state is not HealthState.UNREACHABLE
        if told or not self.takes_work or self._bad >= self._settings.fall:
            state = HealthState.STARTING if report.state in TAKES_WORK else report.state
            self.state, self.detail = state, report.detail
