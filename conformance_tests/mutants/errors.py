"""ORCH-3058: errors, and what goes with them."""

from __future__ import annotations

import codecs

from adapter_api import (
    AccessError,
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    EngineFailed,
    ProtocolViolation,
    TaskError,
    TaskRequest,
)
from adapter_api.testing import error_named
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Fault, Job, Order, Piece, Unreachable


class Garbled(AdapterError):
    """An error with a code of its own."""

    code = "garbled"


@breaks("ORCH-3058-001")
class InventsACode(ReferenceAdapter):
    """Ends a task in a code that the contract does not have."""

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        try:
            return super()._decode(decoder, piece)
        except ProtocolViolation as exc:
            raise Garbled("the engine sent bytes that are no UTF-8") from exc.__cause__


@breaks("ORCH-3058-002")
class LosesWhatItNeverHad(ReferenceAdapter):
    """Says connection_lost where none was made."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except ConnectFailed as exc:
            raise ConnectionLost(exc.message) from exc.__cause__


@breaks("ORCH-3058-003")
class BlamesTheEngine(ReferenceAdapter):
    """Says engine_failed where the connection broke."""

    async def _next(self, job: Job) -> Piece | None:
        try:
            return await super()._next(job)
        except ConnectionLost as exc:
            raise EngineFailed(exc.message) from exc.__cause__


def _takes_for(requirement: str, code: str, other: str) -> None:
    """Make a mutant that takes one kind of failure of a task for another."""

    class Mistakes(ReferenceAdapter):
        async def _begin(self, task: TaskRequest) -> Job:
            try:
                return await super()._begin(task)
            except AdapterError as exc:
                raise self._mistaken(exc) from exc.__cause__

        async def _next(self, job: Job) -> Piece | None:
            try:
                return await super()._next(job)
            except AdapterError as exc:
                raise self._mistaken(exc) from exc.__cause__

        def _mistaken(self, error: AdapterError) -> AdapterError:
            if error.code != code:
                return error
            mistaken = error_named(other, error.message)
            mistaken.retry_after_s = error.retry_after_s
            return mistaken

    Mistakes.__name__ = f"Takes_{code}_for_{other}"
    breaks(requirement)(Mistakes)


_takes_for("ORCH-3058-004", "engine_failed", "not_ready")
_takes_for("ORCH-3058-005", "overloaded", "engine_failed")
_takes_for("ORCH-3058-006", "not_ready", "overloaded")
_takes_for("ORCH-3058-007", "invalid_request", "engine_failed")
_takes_for("ORCH-3058-008", "context_length_exceeded", "invalid_request")
_takes_for("ORCH-3058-009", "unauthenticated", "permission_denied")
_takes_for("ORCH-3058-010", "permission_denied", "unauthenticated")


@breaks("ORCH-3058-011")
class TriesForEver(ReferenceAdapter):
    """Marks the fault of a task as retryable."""

    def _error(self, fault: Fault) -> AdapterError:
        error = super()._error(fault)
        error.retryable = error.retryable or isinstance(error, TaskError)
        return error


@breaks("ORCH-3058-012")
class GivesUpAtOnce(ReferenceAdapter):
    """Does not mark a full engine as retryable."""

    def _error(self, fault: Fault) -> AdapterError:
        error = super()._error(fault)
        error.retryable = False
        return error


@breaks("ORCH-3058-013")
class SaysNothing(ReferenceAdapter):
    """Has no message for one failure."""

    def _error(self, fault: Fault) -> AdapterError:
        return error_named(fault.kind, "") if fault.kind == "permission_denied" else super()._error(fault)


@breaks("ORCH-3058-014")
class QuotesThePrompt(ReferenceAdapter):
    """Quotes the prompt in its messages."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except AdapterError as exc:
            exc.message += f" (prompt: {task.prompt})"
            raise


@breaks("ORCH-3058-015")
class QuotesTheToken(ReferenceAdapter):
    """Quotes its credential when it is refused."""

    def _error(self, fault: Fault) -> AdapterError:
        error = super()._error(fault)
        if fault.kind == "unauthenticated":
            error.message += f" (token {self.settings.token.get_secret_value()})"
        return error


@breaks("ORCH-3058-014")
class QuotesMessages(ReferenceAdapter):
    """Quotes the messages of a task in its errors."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except AdapterError as exc:
            exc.message += " ".join(message.text for message in task.messages or ())
            raise


@breaks("ORCH-3058-015")
class QuotesItsHeaders(ReferenceAdapter):
    """Quotes its credential when the engine cannot be reached."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except ConnectFailed as exc:
            exc.message += f" (token {self.settings.token.get_secret_value()})"
            raise


@breaks("ORCH-3058-026")
class TriesTheDoor(ReferenceAdapter):
    """Marks a refusal of its credential as retryable."""

    def _error(self, fault: Fault) -> AdapterError:
        error = super()._error(fault)
        error.retryable = error.retryable or isinstance(error, AccessError)
        return error


@breaks("ORCH-3058-016")
class HidesTheCause(ReferenceAdapter):
    """Raises without `from`."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await self.server.submit(self._order(task))
        except Unreachable:
            raise ConnectFailed("the engine cannot be reached")
        except Fault as exc:
            raise self._error(exc) from exc


@breaks("ORCH-3058-018")
class KeepsTheWait(ReferenceAdapter):
    """Does not pass on how long to wait."""

    def _error(self, fault: Fault) -> AdapterError:
        return super()._error(Fault(fault.kind, None, fault.subject))


@breaks("ORCH-3058-025")
class FearsZeroBytes(ReferenceAdapter):
    """Breaks on a prompt with a zero byte."""

    def _order(self, task: TaskRequest) -> Order:
        if "\x00" in (task.prompt or ""):
            raise ValueError("embedded null byte")
        return super()._order(task)


@breaks("ORCH-3058-030")
class PassesOnWhatTheEngineSays(ReferenceAdapter):
    """Makes the engine's own words the message."""

    def _error(self, fault: Fault) -> AdapterError:
        error = super()._error(fault)
        error.message = f"{error.message}: {fault}"
        return error
