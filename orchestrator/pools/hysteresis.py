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
        self.takes_work = False
        """An engine may be degraded and take work, or degraded and refuse us."""
        self.detail = "not probed yet"

    def observe(self, report: HealthReport) -> bool:
        """Take one report in; returns whether the state changed, or whether it takes work."""
        before = self.state, self.takes_work
        if report.state in TAKES_WORK and report.ready:
            self._observe_good(report)
        else:
            self._observe_bad(report)
        return (self.state, self.takes_work) != before

    def _observe_good(self, report: HealthReport) -> None:
        self._good, self._bad = self._good + 1, 0
        if self.takes_work or not self._has_been_up or self._good >= self._settings.rise:
            self._has_been_up = self.takes_work = True
            self.state, self.detail = report.state, report.detail

    def _observe_bad(self, report: HealthReport) -> None:
        self._good, self._bad = 0, self._bad + 1
        told = report.state is not HealthState.UNREACHABLE
        if told or not self.takes_work or self._bad >= self._settings.fall:
            # Ready of itself, with nothing that is ready for us: it will be. Degraded keeps its name: it may refuse us.
            self.state = HealthState.STARTING if report.state is HealthState.READY else report.state
            self.takes_work, self.detail = False, report.detail
