"""ORCH-3062: what adapters let people see."""

from __future__ import annotations

import logging

import msgspec

from adapter_api import End, HealthReport, Metrics, TaskRequest, Token, Usage
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Job, Piece

_log = logging.getLogger("reference")


@breaks("ORCH-3062-001")
class LogsThePrompt(ReferenceAdapter):
    """Logs the prompt."""

    async def _begin(self, task: TaskRequest) -> Job:
        _log.debug("submitting %s", task.prompt)
        return await super()._begin(task)


@breaks("ORCH-3062-001")
class LogsTheAnswer(ReferenceAdapter):
    """Logs the answer."""

    def _end(self, job: Job, usage: Usage) -> End:
        _log.debug("the engine said %s", b"".join(job.answer.pieces).decode(errors="replace"))
        return super()._end(job, usage)


@breaks("ORCH-3062-001")
class LogsEachToken(ReferenceAdapter):
    """Logs the answer token by token."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        _log.debug("token %d is %r", index, text)
        return super()._token(task, index, text, piece)


@breaks("ORCH-3062-001")
class LogsMessages(ReferenceAdapter):
    """Logs the messages of a task."""

    async def _begin(self, task: TaskRequest) -> Job:
        _log.debug("submitting %s", [message.text for message in task.messages or ()])
        return await super()._begin(task)


@breaks("ORCH-3062-002")
class LogsTheToken(ReferenceAdapter):
    """Logs its credential."""

    async def _begin(self, task: TaskRequest) -> Job:
        _log.debug("headers: %s", {"authorization": self.settings.token.get_secret_value()})
        return await super()._begin(task)


@breaks("ORCH-3062-003")
class ShowsTheToken(ReferenceAdapter):
    """Shows its credential in its `repr`."""

    def __repr__(self) -> str:
        return f"ShowsTheToken(token={self.settings.token.get_secret_value()!r})"


@breaks("ORCH-3062-004")
class Prints(ReferenceAdapter):
    """Prints."""

    async def _begin(self, task: TaskRequest) -> Job:
        print("submitting", task.job_id)  # noqa: T201 - the point
        return await super()._begin(task)


@breaks("ORCH-3062-007")
class MeasuresMore(ReferenceAdapter):
    """Measures more tokens than there were."""

    def _metrics(self, usage: Usage) -> Metrics:
        return msgspec.structs.replace(super()._metrics(usage), tokens_out=(usage.tokens_out or 0) + 5)


@breaks("ORCH-3062-011")
class SetsUpLogging(ReferenceAdapter):
    """Sets up the logging of the process."""

    async def _open(self) -> None:
        logging.getLogger().addHandler(logging.NullHandler())


@breaks("ORCH-3062-015")
class ShowsTheTokenWhenGone(ReferenceAdapter):
    """Shows its credential in the detail of a report."""

    async def _health(self, *, canary: bool) -> HealthReport:
        report = await super()._health(canary=canary)
        detail = f"{report.detail} ({self.settings.token.get_secret_value()})"
        return report if report.live else msgspec.structs.replace(report, detail=detail)
