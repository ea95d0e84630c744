"""Wait until a server is ready, or find out why it will not be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from adapter_api.errors import AdapterClosed, AdapterError, DeadlineExceeded, EngineFailed

from .diagnose import StartupLog
from .process import ServerProcess
from .readiness import serves_metrics, version_if_ready

_POLL_S = 0.05
_STUB_CHECK_S = 1.0
_PROGRESS_S = 2.0
_METRICS_S = 2.0


@dataclass
class Startup:
    """The start of one server.

    `deadline` is a time of `time.monotonic()`, `timeout_s` what it was made from; `log_start` is where in the log this
    server's output begins, `aliases` maps paths in it to those that people know, `kept_log` is where people will find
    it after a failure; `all_must_load` says whether one model that fails is the end, `metrics_port` is `None` when
    metrics are off, `abort` gives the start up when set.
    """

    process: ServerProcess
    http_port: int
    metrics_port: int | None
    log_file: Path
    log_start: int
    aliases: Mapping[str, str]
    kept_log: Path
    models: Sequence[str]
    all_must_load: bool
    deadline: float
    timeout_s: float
    abort: Event
    progress: Callable[[str], None]

    def wait(self) -> str:
        """Return the server's version when it and all its models are ready.

        Raises:
            LostPort: Another program took one of the ports.
            ConfigurationError: numpy is wrong for the Python backend.
            EngineFailed: The server ended or a model failed to load.
            DeadlineExceeded: It took too long.
            AdapterClosed: The start was given up.
        """
        reporter = _Reporter(self.progress, self.models)
        stubs = _StubWatch(self.process)
        while (version := version_if_ready(self.http_port)) is None:
            log = self._log()
            if self.process.exit_code is not None:
                # Once more: what it said last may have come after we looked.
                raise self._failure(self._log(), f"tritonserver ended with status {self.process.exit_code}")
            if self.all_must_load and log.model_failures and not log.loading:
                # The server would first unload the others, for some seconds.
                raise self._failure(log, "a model failed to load")
            if stubs.one_died():
                raise self._failure(log, f"the Python process of a model ended ({_still_loading(log)})")
            if time.monotonic() >= self.deadline:
                raise DeadlineExceeded(
                    f"the embedded Triton was not ready after {self.timeout_s:g} s ({_still_loading(log)}); allow more "
                    "time (startup_timeout_s; --startup-timeout of `worker-adapter triton`), or see what it said last "
                    f"(log: {self.kept_log}):{log.last_lines()}",
                    stage="connect",
                )
            reporter.report(log.loaded)
            if self.abort.wait(_POLL_S):
                raise AdapterClosed("the embedded Triton was stopped before it was ready")
        self._check_ports()
        reporter.done()
        return version

    def _log(self) -> StartupLog:
        log = StartupLog.read(self.log_file, self.log_start)
        for path, known in self.aliases.items():
            log = StartupLog(log.text.replace(path, known))
        return log

    def _failure(self, log: StartupLog, what: str) -> AdapterError:
        return log.failure(self.kept_log) or EngineFailed(
            f"the embedded Triton did not start: {what}; it said last (log: {self.kept_log}):{log.last_lines()}"
        )

    def _check_ports(self) -> None:
        """Without its metrics port the server goes on as if nothing were wrong; metrics are opened last of all."""
        give_up_at = time.monotonic() + _METRICS_S
        while self.metrics_port is not None and not serves_metrics(self.metrics_port):
            lost = self._log().lost_port
            if lost is not None:
                raise lost
            if time.monotonic() >= give_up_at or self.abort.wait(_POLL_S):
                return


def _still_loading(log: StartupLog) -> str:
    return f"still loading: {', '.join(log.loading) or 'nothing'}"


class _StubWatch:
    """Notice a model's process that died: the server itself waits half a minute for an answer from it."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self._next_check = time.monotonic() + _STUB_CHECK_S
        self._dead: set[int] = set()

    def one_died(self) -> bool:
        """Whether some child of the server was dead at the last check and still is not collected."""
        now = time.monotonic()
        if now < self._next_check:
            return False
        self._next_check = now + _STUB_CHECK_S
        dead = self._process.dead_children()
        # The server collects those that ended in order at once.
        stayed, self._dead = self._dead & dead, dead
        return bool(stayed)


class _Reporter:
    def __init__(self, progress: Callable[[str], None], models: Sequence[str]) -> None:
        self._progress = progress
        self._models = models
        self._started = time.monotonic()
        self._reported = (-1, 0.0)

    def report(self, loaded: set[str]) -> None:
        now = time.monotonic()
        count, at = self._reported
        if len(loaded) != count or now - at >= _PROGRESS_S:
            self._reported = (len(loaded), now)
            ready = f"{len(loaded)} ready, " if loaded else ""
            self._progress(f"loading {_plural(len(self._models))} … {ready}{now - self._started:.1f} s")

    def done(self) -> None:
        self._progress(f"{_plural(len(self._models))} ready after {time.monotonic() - self._started:.1f} s")


def _plural(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"
