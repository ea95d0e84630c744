"""ORCH-3055: how a task gets to an engine."""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import Any

import anyio
import msgspec

from adapter_api import (
    Capability,
    End,
    EngineFailed,
    InvalidRequest,
    Message,
    ModelNotFound,
    Started,
    TaskRequest,
    Token,
    TokenStream,
    Unsupported,
    Usage,
    WorkerAdapter,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import MIRROR, VERSIONS, Job, Order, Piece
from conformance_tests.suite.sent import OPTIONS


def _raises_at_once(self: WorkerAdapter, task: TaskRequest) -> TokenStream:
    assert isinstance(self, ReferenceAdapter)
    if task.model not in self.server.models:
        raise ModelNotFound(f"no model {task.model!r}")
    return WorkerAdapter.submit(self, task)


@breaks("ORCH-3055-001", final={"submit": _raises_at_once})
class RaisesAtOnce(ReferenceAdapter):
    """Raises from `submit` what belongs into the stream."""


def _forgets_the_running(self: WorkerAdapter, task: TaskRequest) -> TokenStream:
    if (running := self._streams.get(task.job_id)) is not None:
        self._streams.forget(running)
    return WorkerAdapter.submit(self, task)


@breaks("ORCH-3055-003", final={"submit": _forgets_the_running})
class TakesAJobTwice(ReferenceAdapter):
    """Runs a second task of a running job."""


@breaks("ORCH-3055-004")
class MixesUp(ReferenceAdapter):
    """Hands out the tokens of another task when many run, unless one had stop strings."""

    stopped = False

    def _order(self, task: TaskRequest) -> Order:
        self.stopped = self.stopped or bool(task.stop)
        return super()._order(task)

    async def _next(self, job: Job) -> Piece | None:
        if len(self.jobs) > 8 and not self.stopped:
            job = next(iter(self.jobs.values()))
        return await super()._next(job)


@breaks("ORCH-3055-004")
class RemembersTheLast(ReferenceAdapter):
    """Names the job that began last in the started event of every task."""

    last = ""

    async def _begin(self, task: TaskRequest) -> Job:
        self.last = task.job_id
        return await super()._begin(task)

    def _started(self, task: TaskRequest) -> Started:
        crowded = len(self.live_jobs) > 8
        return msgspec.structs.replace(super()._started(task), job_id=self.last if crowded else task.job_id)


@breaks("ORCH-3055-005")
class Jams(ReferenceAdapter):
    """Never begins a task when many run."""

    async def _begin(self, task: TaskRequest) -> Job:
        if task.max_tokens == 8 and len(self.live_jobs) > 15:
            await anyio.sleep_forever()
        return await super()._begin(task)


@breaks("ORCH-3055-006")
class BlamesTheRequest(ReferenceAdapter):
    """Calls an unknown model an invalid request."""

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except ModelNotFound as exc:
            raise InvalidRequest(exc.message) from exc.__cause__


class _Drops(ReferenceAdapter):
    """Drops what it does not declare, in silence."""

    def _check(self, task: TaskRequest) -> None:
        for name in task.parameters_for(self.engine):
            raise InvalidRequest(f"no parameter {name!r}")


for _capability in (
    Capability.MESSAGES, Capability.IMAGES, Capability.STOP, Capability.SEED, Capability.LOGPROBS,
    Capability.RESPONSE_FORMAT, Capability.TOOLS, Capability.IMAGE_URLS,
):  # fmt: skip
    breaks("ORCH-3055-007", without={_capability})(type(f"Drops{_capability.title()}", (_Drops,), {}))


@breaks("ORCH-3055-007", without={Capability.TOOLS})
class RefusesVaguely(ReferenceAdapter):
    """Refuses what it does not declare, as an invalid request."""

    def _check(self, task: TaskRequest) -> None:
        try:
            super()._check(task)
        except Unsupported as exc:
            raise InvalidRequest(exc.message) from None


@breaks("ORCH-3055-008")
class WantsNoParameters(ReferenceAdapter):
    """Refuses the parameters of other engines."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.parameters:
            raise InvalidRequest("no parameters, please")


@breaks("ORCH-3055-009")
class PassesOverParameters(ReferenceAdapter):
    """Passes over a misspelt parameter of its own."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task.model_copy(update={"parameters": {}}))


@breaks("ORCH-3055-009")
class NamesNoParameter(ReferenceAdapter):
    """Refuses a misspelt parameter of its own without naming it."""

    def _check(self, task: TaskRequest) -> None:
        if task.parameters_for(self.engine):
            raise InvalidRequest("a parameter is wrong")
        super()._check(task)


@breaks("ORCH-3055-036")
class WantsNoTrace(ReferenceAdapter):
    """Refuses a trace context."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.traceparent is not None:
            raise InvalidRequest("traceparent is not known here")


@breaks("ORCH-3055-036")
class WantsNoBatch(ReferenceAdapter):
    """Refuses the lower priority."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.priority == "batch":
            raise Unsupported("priorities are not known here")


@breaks("ORCH-3055-038")
class SharesItsDecoder(ReferenceAdapter):
    """Has one decoder for all tasks, which fails on characters that come interleaved."""

    decoder: codecs.IncrementalDecoder | None = None

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        self.decoder = self.decoder or decoder
        return super()._decode(self.decoder, piece)


@breaks("ORCH-3055-038")
class CountsWrongly(ReferenceAdapter):
    """Takes itself for full long before it is, and blames the engine."""

    async def _begin(self, task: TaskRequest) -> Job:
        if task.max_tokens == 8 and task.seed is None and len(self.live_jobs) > 8:
            raise EngineFailed("the answer is not the one that was expected")
        return await super()._begin(task)


@breaks("ORCH-3055-039")
class NeedsALimit(ReferenceAdapter):
    """Computes with `max_tokens` where there is none."""

    def _order(self, task: TaskRequest) -> Order:
        if task.max_tokens is None:
            raise TypeError("'<' not supported between instances of 'int' and 'NoneType'")
        return super()._order(task)


class _Crowded(ReferenceAdapter):
    """Does something else when many tasks run."""

    def _other(self, job: Job) -> Job:
        """Return the job that is taken for this one."""
        running = list(self.jobs.values())
        return running[0] if len(running) > 5 else job


@breaks("ORCH-3055-042")
class CountsAnothersTokens(_Crowded):
    """Tells the usage of another task when many run."""

    def _usage(self, job: Job) -> Usage:
        return super()._usage(self._other(job))


@breaks("ORCH-3055-042")
class EndsForAnothersReason(_Crowded):
    """Tells the finish reason of another task when many run."""

    def _end(self, job: Job, usage: Usage) -> End:
        return super()._end(self._other(job), usage)


class _Saying(ReferenceAdapter):
    """Sends other messages."""

    def _prompt(self, task: TaskRequest) -> str:
        if task.messages is None:
            return super()._prompt(task)
        return super()._prompt(task.model_copy(update={"messages": self._messages(task.messages)}))

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return messages


@breaks("ORCH-3055-043")
class SendsTheLastMessage(_Saying):
    """Sends the last message only."""

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return messages[-1:]


@breaks("ORCH-3055-043")
class TakesAllForTheUsers(_Saying):
    """Sends every message as the user's."""

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(message.model_copy(update={"role": "user"}) for message in messages)


@breaks("ORCH-3055-043")
class SendsBackwards(_Saying):
    """Sends the latest message first."""

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return messages[::-1]


@breaks("ORCH-3055-043")
class RepeatsTheLast(_Saying):
    """Sends the last of several messages twice."""

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return messages if len(messages) < 4 else (*messages, messages[-1])


@breaks("ORCH-3055-044")
class SendsTheConversationBefore(_Saying):
    """Sends a conversation of several turns with the next one as well."""

    before: tuple[Message, ...] = ()

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        sent, self.before = (*self.before, *messages), messages if len(messages) == 3 else ()
        return sent


@breaks("ORCH-3055-044")
class SendsThePromptBefore(ReferenceAdapter):
    """Sends the prompt of a task for the echoing model with the next one as well."""

    before = ""

    def _prompt(self, task: TaskRequest) -> str:
        prompt = super()._prompt(task)
        if task.model != MIRROR or task.prompt is None:
            return prompt
        sent, self.before = f"{self.before}{prompt}", prompt
        return sent


@breaks("ORCH-3055-044")
class KeepsOptions(ReferenceAdapter):
    """Sends the options of one task with the next as well."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: dict[str, Any] = {}

    def _options(self, task: TaskRequest) -> dict[str, Any]:
        self.kept |= super()._options(task)
        return dict(self.kept)


def _loses(option: str) -> None:
    class Loses(ReferenceAdapter):
        def _options(self, task: TaskRequest) -> dict[str, Any]:
            return {name: value for name, value in super()._options(task).items() if name != option}

    Loses.__name__ = f"Loses{option.title().replace('_', '')}"
    breaks("ORCH-3055-045")(Loses)


for _option in OPTIONS:
    _loses(_option)


@breaks("ORCH-3055-045")
class RoundsTheTemperature(ReferenceAdapter):
    """Sends a whole number as temperature."""

    def _options(self, task: TaskRequest) -> dict[str, Any]:
        options = super()._options(task)
        return options | ({"temperature": round(options["temperature"])} if "temperature" in options else {})


@breaks("ORCH-3055-046")
class AsksForNoVersion(ReferenceAdapter):
    """Takes whatever version the engine chooses."""

    def _order(self, task: TaskRequest) -> Order:
        return replace(super()._order(task), model_version=None)


@breaks("ORCH-3055-046")
class AsksForTheLatest(ReferenceAdapter):
    """Asks for the latest version where the asked one exists."""

    def _order(self, task: TaskRequest) -> Order:
        order = super()._order(task)
        return replace(order, model_version=None) if order.model_version in VERSIONS else order


@breaks("ORCH-3055-049")
class LosesTheTextOfTheLastProbability(ReferenceAdapter):
    """Tells the probability of a token whose text it holds back, and forgets the text."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        token = super()._token(task, index, text, piece)
        return msgspec.structs.replace(token, text="") if token.logprob is not None and index == 1 else token


@breaks("ORCH-3055-049")
class TellsTextTwiceBesideProbabilities(ReferenceAdapter):
    """Shows the token that a stop string waits for once more, where probabilities are told with it."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        token = super()._token(task, index, text, piece)
        twice = token.logprob is not None and task.stop
        return msgspec.structs.replace(token, text=text * 2) if twice else token


@breaks("ORCH-3055-050")
class SharesItsStops(ReferenceAdapter):
    """Asks the engine for the stop strings of whichever task came before, when several run."""

    before: tuple[str, ...] = ()

    def _order(self, task: TaskRequest) -> Order:
        order = super()._order(task)
        stop, self.before = self.before, task.stop
        return replace(order, stop=stop) if len(self.live_jobs) > 1 else order


@breaks("ORCH-3055-051")
class RunsOneAtATime(ReferenceAdapter):
    """Lets a short task wait for a long one that was there before, as on one connection, though not for ever."""

    async def _open(self) -> None:
        await super()._open()
        self._long: dict[str, anyio.Event] = {}

    async def _begin(self, task: TaskRequest) -> Job:
        if task.max_tokens == 8:
            with anyio.move_on_after(50):
                for ended in tuple(self._long.values()):
                    await ended.wait()
            return await super()._begin(task)
        job = await super()._begin(task)
        self._long[task.job_id] = anyio.Event()
        return job

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        super()._let_go(task, job)
        if (ended := self._long.pop(task.job_id, None)) is not None:
            ended.set()
