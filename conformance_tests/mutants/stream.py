"""ORCH-3059: the stream of a task's events."""

from __future__ import annotations

import asyncio
import codecs
import sys
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from adapter_api import (
    AdapterError,
    CancelReceipt,
    Capability,
    ConnectFailed,
    End,
    EngineFailed,
    Error,
    FinishReason,
    Metrics,
    ModelNotFound,
    ProtocolViolation,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    Unsupported,
    Usage,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.answers import ECHO, SPLIT
from conformance_tests.reference.engine import Job, Order, Piece


class _Rewriting(ReferenceAdapter):
    """Says other events than the reference adapter."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                for said in self._rewritten(event, task):
                    yield said

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [event]


@breaks("ORCH-3059-001")
class MeasuresFirst(_Rewriting):
    """Says metrics before started."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [Metrics(), event] if isinstance(event, Started) else [event]


@breaks("ORCH-3059-001")
class StartsOnce(_Rewriting):
    """Says started for its first task only."""

    started = False

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        if not isinstance(event, Started):
            return [event]
        again, self.started = self.started, True
        return [] if again else [event]


@breaks("ORCH-3059-002")
class StartsTwice(_Rewriting):
    """Says started twice."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [event, event] if isinstance(event, Started) else [event]


@breaks("ORCH-3059-003")
class CountsFromOne(ReferenceAdapter):
    """Counts its tokens from 1."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return super()._token(task, index + 1, text, piece)


@breaks("ORCH-3059-003")
class CountsNothing(ReferenceAdapter):
    """Gives every token the index 0."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return super()._token(task, 0, text, piece)


@breaks("ORCH-3059-003")
class CountsForAllTasks(ReferenceAdapter):
    """Counts on where the task before left off."""

    said = 0

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        self.said += 1
        return super()._token(task, self.said - 1, text, piece)


@breaks("ORCH-3059-004")
class NeverEnds(_Rewriting):
    """Says no end."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [] if isinstance(event, End) else [event]


@breaks("ORCH-3059-005")
class SpeaksAfterTheEnd(_Rewriting):
    """Says a token after the end."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [event, Token(99, " more")] if isinstance(event, End) else [event]


@breaks("ORCH-3059-005")
class EndsTwice(_Rewriting):
    """Says two ends."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [event, event] if isinstance(event, End) else [event]


@breaks("ORCH-3059-005")
class EndsAfterAnError(ReferenceAdapter):
    """Says an end after the error of a task that was refused."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        try:
            async with aclosing(super()._submit(task)) as events:
                async for event in events:
                    yield event
        except ModelNotFound as exc:
            yield Error.from_exception(exc)
            yield End(finish_reason="unknown")


@breaks("ORCH-3059-006")
class TakesABreakForTheEnd(ReferenceAdapter):
    """Takes the end of the connection for the end of the answer."""

    async def _next(self, job: Job) -> Piece | None:
        piece = await super()._next(job)
        if piece is None and job.answer.reason is None:
            job.answer = job.answer._replace(reason="stop")
        return piece


@breaks("ORCH-3059-007")
class HoldsOneBack(_Rewriting):
    """Holds each token back until the next one comes."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        held: list[TokenEvent] = []
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                held.append(event)
                if len(held) > 1 or isinstance(event, Started):
                    yield held.pop(0)
        for event in held:
            yield event


@breaks("ORCH-3059-008")
class NamesItsOwnJob(ReferenceAdapter):
    """Tells a `job_id` of its own."""

    def _started(self, task: TaskRequest) -> Started:
        return msgspec.structs.replace(super()._started(task), job_id="engine-41")


@breaks("ORCH-3059-009")
class NamesAnotherModel(ReferenceAdapter):
    """Tells the name under which the engine knows the model."""

    def _started(self, task: TaskRequest) -> Started:
        return msgspec.structs.replace(super()._started(task), model="tiny-7b-instruct")


@breaks("ORCH-3059-010")
class StripsBlanks(ReferenceAdapter):
    """Strips the blanks of each token."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return super()._token(task, index, text.strip(), piece)


@breaks("ORCH-3059-010")
class Accumulates(_Rewriting):
    """Says all of the text so far in each token."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        text = ""
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                if isinstance(event, Token):
                    text += event.text
                    event = msgspec.structs.replace(event, text=text)
                yield event


@breaks("ORCH-3059-010")
class DropsBlanks(_Rewriting):
    """Drops tokens that are nothing but blanks."""

    dropped = 0

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        if not isinstance(event, Token):
            return [event]
        self.dropped = 0 if event.index == 0 else self.dropped
        if not event.text.strip():
            self.dropped += 1
            return []
        return [msgspec.structs.replace(event, index=event.index - self.dropped)]


@breaks("ORCH-3059-011")
class DecodesEachPiece(ReferenceAdapter):
    """Decodes each piece by itself."""

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        return piece.data.decode(errors="replace")


@breaks("ORCH-3059-011")
class DropsCutCharacters(ReferenceAdapter):
    """Drops what is no whole character."""

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        return piece.data.decode(errors="ignore")


@breaks("ORCH-3059-011")
class ReadsLatin1(ReferenceAdapter):
    """Takes the bytes for another encoding."""

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        return piece.data.decode("latin-1")


@breaks("ORCH-3059-012")
class EchoesThePrompt(ReferenceAdapter):
    """Begins the text with the prompt."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return super()._token(task, index, (task.prompt or "") + text if index == 0 else text, piece)


@breaks("ORCH-3059-013")
class WantsAnAnswer(ReferenceAdapter):
    """Fails a task without text."""

    def _end(self, job: Job, usage: Usage) -> End:
        if not job.answer.pieces:
            raise EngineFailed("the engine said nothing")
        return super()._end(job, usage)


@breaks("ORCH-3059-014")
class Buffers(ReferenceAdapter):
    """Hands out the tokens when it has them all."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffers: dict[Job, deque[Piece | AdapterError]] = {}

    async def _next(self, job: Job) -> Piece | None:
        if len(job.answer.pieces) > 1000:
            return await super()._next(job)
        if job not in self.buffers:
            pieces: deque[Piece | AdapterError] = deque()
            try:
                while (piece := await super()._next(job)) is not None:
                    pieces.append(piece)
            except AdapterError as exc:
                pieces.append(exc)
            self.buffers[job] = pieces
        item = self.buffers[job].popleft() if self.buffers[job] else None
        if isinstance(item, AdapterError):
            raise item
        return item


class _Counting(ReferenceAdapter):
    """Counts otherwise than the reference adapter."""

    def _changes(self, usage: Usage) -> dict[str, int | None]:
        return {}

    def _usage(self, job: Job) -> Usage:
        usage = super()._usage(job)
        return msgspec.structs.replace(usage, **self._changes(usage))


@breaks("ORCH-3059-015")
class CountsOneMore(_Counting):
    """Counts the end as a token."""

    def _changes(self, usage: Usage) -> dict[str, int | None]:
        return {"tokens_out": (usage.tokens_out or 0) + 1}


@breaks("ORCH-3059-015")
class CountsNoAnswer(_Counting):
    """Does not count the answer."""

    def _changes(self, usage: Usage) -> dict[str, int | None]:
        return {"tokens_out": None}


@breaks("ORCH-3059-016")
class CountsNoPrompt(_Counting):
    """Does not count the prompt."""

    def _changes(self, usage: Usage) -> dict[str, int | None]:
        return {"tokens_in": 0}


@breaks("ORCH-3059-016")
class CountsPromptAndAnswer(_Counting):
    """Counts the answer as prompt."""

    def _changes(self, usage: Usage) -> dict[str, int | None]:
        return {"tokens_in": (usage.tokens_in or 0) + (usage.tokens_out or 0)}


@breaks("ORCH-3059-017", without={Capability.USAGE})
class CountsPieces(ReferenceAdapter):
    """Counts pieces of text where the engine counts no tokens."""

    def _usage(self, job: Job) -> Usage:
        return Usage(tokens_in=1, tokens_out=len(job.answer.pieces))


class _Ending(ReferenceAdapter):
    """Tells other finish reasons."""

    reasons: dict[str, Any] = {}  # noqa: RUF012 - never written to

    def _end(self, job: Job, usage: Usage) -> End:
        end = super()._end(job, usage)
        return msgspec.structs.replace(end, finish_reason=self.reasons.get(end.finish_reason, end.finish_reason))


@breaks("ORCH-3059-018")
class CallsALimitAStop(_Ending):
    """Says stop where max_tokens cut."""

    reasons = {"length": "stop"}  # noqa: RUF012


@breaks("ORCH-3059-019")
class CallsAStopALimit(_Ending):
    """Says length where the model ended."""

    reasons = {"stop": "length"}  # noqa: RUF012


@breaks("ORCH-3059-019")
class CallsAStopUnknown(_Ending):
    """Says unknown where the model ended."""

    reasons = {"stop": "unknown"}  # noqa: RUF012


@breaks("ORCH-3059-020", without={Capability.FINISH_REASON})
class ClaimsAStop(_Ending):
    """Says stop where the engine says nothing."""

    reasons = {"unknown": "stop"}  # noqa: RUF012


@breaks("ORCH-3059-021", without={Capability.TOKEN_IDS})
class AsksForOneMore(ReferenceAdapter):
    """Asks the engine for one token more."""

    def _order(self, task: TaskRequest) -> Order:
        order = super()._order(task)
        return Order(**(vars(order) | {"max_tokens": order.max_tokens + 1}))


@breaks("ORCH-3059-021", without={Capability.TOKEN_IDS})
class AsksForTheDefault(ReferenceAdapter):
    """Does not tell the engine max_tokens when it is small."""

    def _order(self, task: TaskRequest) -> Order:
        order = super()._order(task)
        return Order(**(vars(order) | {"max_tokens": max(16, order.max_tokens)}))


@breaks("ORCH-3059-022")
class NeverStops(ReferenceAdapter):
    """Passes over stop strings."""

    def _order(self, task: TaskRequest) -> Order:
        return Order(**(vars(super()._order(task)) | {"stop": ()}))


class _CutsItself(ReferenceAdapter):
    """Looks for the stop strings itself, rightly."""

    reason: FinishReason = "stop"
    flushes = True
    """Whether what was held back is delivered at the end."""

    def _order(self, task: TaskRequest) -> Order:
        return Order(**(vars(super()._order(task)) | {"stop": ()}))

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        held, index, taken = "", 0, 0
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                if not isinstance(event, Token):
                    if held and self.flushes and isinstance(event, Metrics):
                        yield Token(index, held)
                    yield event
                    continue
                taken += 1
                ready, held, found = self._cut(held + event.text, task.stop)
                if ready:
                    yield msgspec.structs.replace(event, index=index, text=ready)
                    index += 1
                if found:
                    usage = Usage(tokens_in=len(self._prompt(task).split()), tokens_out=taken)
                    yield End(finish_reason=self.reason, usage=usage)
                    return

    def _cut(self, text: str, stops: tuple[str, ...]) -> tuple[str, str, bool]:
        """Return what can be said, what may be the beginning of a stop string, and whether there was one."""
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        if found:
            return text[: min(found)], "", True
        begun = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
        return text[: len(text) - begun], text[len(text) - begun :], False


@breaks("ORCH-3059-022")
class ShowsTheStop(_CutsItself):
    """Ends the text with the stop string."""

    def _cut(self, text: str, stops: tuple[str, ...]) -> tuple[str, str, bool]:
        ready, held, found = super()._cut(text, stops)
        return ready + text.removeprefix(ready) if found else ready, held, found


@breaks("ORCH-3059-022")
class HoldsNothingBack(_CutsItself):
    """Shows the first part of a stop string that comes in two tokens."""

    def _cut(self, text: str, stops: tuple[str, ...]) -> tuple[str, str, bool]:
        ready, held, found = super()._cut(text, stops)
        return ready + held, "", found


@breaks("ORCH-3059-022")
class KnowsOneStop(_CutsItself):
    """Looks for the first stop string only."""

    def _cut(self, text: str, stops: tuple[str, ...]) -> tuple[str, str, bool]:
        return super()._cut(text, stops[:1])


@breaks("ORCH-3059-046")
class CallsACutUnknown(_CutsItself):
    """Says unknown where a stop string cut."""

    reason = "unknown"


@breaks("ORCH-3059-047")
class ForgetsWhatItHeldBack(_CutsItself):
    """Drops the end of an answer when it begins like a stop string."""

    flushes = False


@breaks("ORCH-3059-023")
class ForgetsTheSeed(ReferenceAdapter):
    """Passes over the seed."""

    def _order(self, task: TaskRequest) -> Order:
        return Order(**(vars(super()._order(task)) | {"seed": None}))


@breaks("ORCH-3059-023")
class TakesSeedZeroForNone(ReferenceAdapter):
    """Passes over the seed 0."""

    def _order(self, task: TaskRequest) -> Order:
        return Order(**(vars(super()._order(task)) | {"seed": task.seed or None}))


@breaks("ORCH-3059-024")
class WantsAPrompt(ReferenceAdapter):
    """Refuses messages, which it declares."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.messages is not None and not task.images:
            raise Unsupported("give a prompt")


@breaks("ORCH-3059-025")
class WantsNoImage(ReferenceAdapter):
    """Refuses images, which it declares."""

    def _check(self, task: TaskRequest) -> None:
        super()._check(task)
        if task.images:
            raise Unsupported("give text only")


@breaks("ORCH-3059-026")
class HidesProbabilities(ReferenceAdapter):
    """Tells no log probabilities."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return msgspec.structs.replace(super()._token(task, index, text, piece), logprob=None)


@breaks("ORCH-3059-026")
class TellsCosts(ReferenceAdapter):
    """Tells negative log probabilities."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        token = super()._token(task, index, text, piece)
        return msgspec.structs.replace(token, logprob=None if token.logprob is None else -token.logprob)


@breaks("ORCH-3059-048")
class HidesAlternatives(ReferenceAdapter):
    """Takes a task that asks for alternatives, and tells none."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return msgspec.structs.replace(super()._token(task, index, text, piece), alternatives=())


@breaks("ORCH-3059-048")
class TellsTheUnlikeliestFirst(ReferenceAdapter):
    """Turns the order of the alternatives round."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        token = super()._token(task, index, text, piece)
        return msgspec.structs.replace(token, alternatives=token.alternatives[::-1])


@breaks("ORCH-3059-048")
class TellsMoreThanAsked(ReferenceAdapter):
    """Tells one alternative too many."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        more = None if not task.logprobs else task.model_copy(update={"logprobs": task.logprobs + 1})
        return super()._token(more or task, index, text, piece)


@breaks("ORCH-3059-026")
class TakesZeroForNone(ReferenceAdapter):
    """Tells no log probability when no alternatives are asked for."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        token = super()._token(task, index, text, piece)
        return token if task.logprobs else msgspec.structs.replace(token, logprob=None)


@breaks("ORCH-3059-027")
class AnswersFreely(ReferenceAdapter):
    """Does not hold the answer to its schema."""

    def _order(self, task: TaskRequest) -> Order:
        return Order(**(vars(super()._order(task)) | {"json": False}))


@breaks("ORCH-3059-028")
class SkipsForSlowReaders(ReferenceAdapter):
    """Drops tokens to keep up with the engine."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.handed_out: dict[Job, float] = {}

    async def _next(self, job: Job) -> Piece | None:
        if anyio.current_time() - self.handed_out.get(job, anyio.current_time()) > 0.04:
            await super()._next(job)
        piece = await super()._next(job)
        self.handed_out[job] = anyio.current_time()
        return piece


@breaks("ORCH-3059-029")
class WaitsForEveryReader(SkipsForSlowReaders):
    """Begins no task while a reader does not read."""

    async def _next(self, job: Job) -> Piece | None:
        piece = await ReferenceAdapter._next(self, job)
        self.handed_out[job] = anyio.current_time()
        return piece

    def _is_stuck(self, job: Job) -> bool:
        return anyio.current_time() - self.handed_out.get(job, anyio.current_time()) > 0.4

    async def _begin(self, task: TaskRequest) -> Job:
        while any(self._is_stuck(job) for job in self.jobs.values()):  # noqa: ASYNC110 - it is a mutant
            await anyio.sleep(1)
        return await super()._begin(task)


@breaks("ORCH-3059-039")
class SaysDictionaries(_Rewriting):
    """Says dictionaries beside its events."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        return [event, {"type": "metrics"}] if isinstance(event, Started) else [event]


@breaks("ORCH-3059-040")
class SaysHalves(_Rewriting):
    """Says half of a surrogate pair, which no JSON has; the guard does not look into the text of a plain token."""

    def _rewritten(self, event: TokenEvent, task: TaskRequest) -> list[Any]:
        # Not where its text is compared with another, or has more to it: that is for other requirements.
        plain = task.logprobs is None and task.response_format is None
        plain = plain and not (task.prompt or "").startswith((ECHO, SPLIT))
        return [Token(event.index, "\ud83d")] if plain and type(event) is Token and event.index == 1 else [event]


@breaks("ORCH-3059-041")
class WantsOneReader(_Rewriting):
    """Holds on to the task that reads first."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        reader = asyncio.current_task()
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                if asyncio.current_task() is not reader:
                    raise EngineFailed("attempted to exit a cancel scope in a different task than it was entered in")
                yield event


@breaks("ORCH-3059-042")
class TakesEverything(ReferenceAdapter):
    """Takes all tokens of a very long answer at once."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.taken: dict[Job, list[Piece | None]] = {}

    async def _next(self, job: Job) -> Piece | None:
        if len(job.answer.pieces) < 1000:
            return await super()._next(job)
        if job not in self.taken:
            self.server.pace_s = 0.0
            self.taken[job] = [await ReferenceAdapter._next(self, job) for _ in range(5000)]
        return self.taken[job].pop(0) if self.taken[job] else await super()._next(job)


@breaks("ORCH-3059-043")
class RaisesWhenLeft(ReferenceAdapter):
    """Raises while it is being closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cancelled: set[str] = set()

    async def _cancel(self, job_id: str) -> CancelReceipt:
        self.cancelled.add(job_id)
        return await super()._cancel(job_id)

    def _let_go(self, task: TaskRequest, job: Job) -> None:
        super()._let_go(task, job)
        if sys.exc_info()[0] is GeneratorExit and task.job_id not in self.cancelled and self._lifecycle == "open":
            raise RuntimeError("the stream is still open")


@breaks("ORCH-3059-044")
class CallsAToolCallAStop(_Ending):
    """Says stop where a tool is called."""

    reasons = {"tool_calls": "stop"}  # noqa: RUF012


@breaks("ORCH-3059-045")
class NeverAnswers(ReferenceAdapter):
    """Fails every task."""

    async def _begin(self, task: TaskRequest) -> Job:
        raise EngineFailed("the engine is in a bad mood")


@breaks("ORCH-3059-051")
class WaitsForAnotherPiece(ReferenceAdapter):
    """Holds a character of several bytes back until something follows it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.held: dict[int, str] = {}

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> str:
        text = self.held.pop(id(decoder), "") + super()._decode(decoder, piece)
        if text and not text[-1].isascii():
            self.held[id(decoder)] = text[-1]
            return text[:-1]
        return text

    def _rest(self, decoder: codecs.IncrementalDecoder) -> str:
        self.held.pop(id(decoder), None)
        return super()._rest(decoder)


@breaks("ORCH-3059-052")
class FailsAtHalfACharacter(ReferenceAdapter):
    """Fails an answer that stops inside a character."""

    def _rest(self, decoder: codecs.IncrementalDecoder) -> str:
        if super()._rest(decoder):
            raise ProtocolViolation("the engine sent bytes that are no UTF-8")
        return ""


@breaks("ORCH-3059-052")
class ShowsHalfACharacter(ReferenceAdapter):
    """Shows the bytes of a character that is not complete as characters of their own."""

    def _rest(self, decoder: codecs.IncrementalDecoder) -> str:
        return decoder.getstate()[0].decode("latin-1")


class _TryingAgain(ReferenceAdapter):
    """Tries a task once more that the engine refused or whose connection broke."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tried: set[str] = set()

    async def _begin(self, task: TaskRequest) -> Job:
        try:
            return await super()._begin(task)
        except ConnectFailed:
            self.tried.add(task.job_id)
            return await super()._begin(task)


@breaks("ORCH-3059-053")
class CountsItsTrials(_TryingAgain):
    """Counts on from the try before."""

    def _token(self, task: TaskRequest, index: int, text: str, piece: Piece) -> Token:
        return super()._token(task, index + (task.job_id in self.tried), text, piece)


@breaks("ORCH-3059-053")
class StartsEachTry(_TryingAgain):
    """Says started for each try."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                yield event
                if isinstance(event, Started) and task.job_id in self.tried:
                    yield event


@breaks("ORCH-3059-054")
class CountsNothingBesideStops(ReferenceAdapter):
    """Tells no usage of a task with stop strings."""

    async def _begin(self, task: TaskRequest) -> Job:
        job = await super()._begin(task)
        job.stopped = bool(task.stop)  # type: ignore[attr-defined]
        return job

    def _usage(self, job: Job) -> Usage:
        return Usage() if job.stopped else super()._usage(job)  # type: ignore[attr-defined]


@breaks("ORCH-3059-054")
class CountsWhatWasCutOff(CountsNothingBesideStops):
    """Counts more than a task with stop strings has had."""

    def _usage(self, job: Job) -> Usage:
        usage = ReferenceAdapter._usage(self, job)
        return Usage(tokens_in=usage.tokens_in, tokens_out=100) if job.stopped else usage  # type: ignore[attr-defined]
