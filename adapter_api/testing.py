"""Doubles and validators for tests of adapters and hosts. Public: use them in yours.

adapter = MockAdapter(MockSettings(reply="one two three", fail_after=2))
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Literal
from zlib import crc32

import anyio
from pydantic import BaseModel, ConfigDict, Field

from adapter_api import errors
from adapter_api.adapter import WorkerAdapter
from adapter_api.cancel import CancelReceipt
from adapter_api.errors import AdapterError, DeadlineExceeded, InvalidRequest, ModelNotFound
from adapter_api.events import (
    Alternative,
    End,
    FinishReason,
    Metrics,
    Output,
    PromptLogprobs,
    PromptToken,
    Reasoning,
    Started,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
    Usage,
)
from adapter_api.grammar import find_violation
from adapter_api.health import Capacity, HealthReport, HealthState, ModelHealth
from adapter_api.props import Capability, EngineProps, ModelProps
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from adapter_api.tensors import InferRequest, InferResponse

__all__ = [
    "MockAdapter",
    "MockSettings",
    "MockToolCall",
    "collect",
    "error_named",
    "find_violation",
    "reasoning_of",
    "text_of",
]

ErrorCode = Literal[
    "invalid_request", "context_length_exceeded", "model_not_found", "unsupported", "unauthenticated",
    "permission_denied", "not_ready", "overloaded", "engine_failed", "protocol_violation", "connect_failed",
    "connection_lost", "stream_incomplete", "deadline_exceeded",
]  # fmt: skip

_CAPABILITIES = frozenset(
    {
        Capability.TEXT,
        Capability.MESSAGES,
        Capability.STREAMING,
        Capability.CANCEL_HARD,
        Capability.STOP,
        Capability.SEED,
        Capability.USAGE,
        Capability.FINISH_REASON,
        Capability.TENSORS,
        Capability.TENSOR_STREAM,
    }
)


class MockToolCall(BaseModel):
    """A tool call that a `MockAdapter` makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: str = Field(default="{}", description="told as it stands, whether it is JSON or not")
    id: str | None = Field(default=None, description="None: as from an engine that gives none")


class MockSettings(BaseModel):
    """What a `MockAdapter` says and how it fails; faults are off unless given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(default=None, description="ignored: `mock://` chooses this adapter by URL")
    models: tuple[str, ...] = ("mock",)
    reply: str | None = Field(default=None, description="what every task is answered; made from the seed when absent")
    reasoning: str | None = Field(default=None, description="what it thinks before each answer")
    tool_calls: tuple[MockToolCall, ...] = Field(
        default=(),
        description="made instead of the reply to a task with `tools`, but for one whose last message is a tool's "
        "result",
    )
    arguments_cut: int | None = Field(
        default=8, ge=1, description="characters of a tool call's arguments per event; None: each call whole"
    )
    default_max_tokens: int = Field(default=16, ge=1)
    delay_s: float = Field(default=0.0, ge=0, description="before each event of output")
    slots: int = Field(default=1024, ge=1, description="tasks at once; one more is `overloaded`")
    state: HealthState = HealthState.READY
    fail: ErrorCode | None = Field(default=None, description="fail with this error")
    fail_after: int = Field(default=0, ge=0, description="that many events of output come before `fail`")
    fail_times: int | None = Field(default=None, ge=0, description="only the first so many tasks fail; None: all")
    hang_after: int | None = Field(default=None, ge=0, description="say nothing more after so many events of output")
    token_ids: bool = Field(
        default=False, description="take prompts as token ids, and tell ids: of each word its checksum"
    )
    logprobs: bool = Field(
        default=False, description="tell how likely the words of its replies are, and those of prompts"
    )
    echo: str | None = Field(
        default=None, description="one more model, which answers each task with its own JSON form, whole"
    )
    responses: int = Field(default=1, ge=1, description="of each stream of tensors")


class MockAdapter(WorkerAdapter):
    """A whole adapter without an engine: lawful, honest about what it can do, and broken on demand.

    Replies are words: the `reply`, or a text that depends only on prompt and seed. Tensor inference returns the inputs.
    It has `tools` when its settings have `tool_calls`, and `reasoning` when they have that.
    """

    engine = "mock"
    heeds = frozenset({Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS, Capability.PROMPT_LOGPROBS})

    def __init__(self, settings: MockSettings | None = None) -> None:
        self.settings = settings or MockSettings()
        self.running: set[str] = set()
        """`job_id`s in the engine now, so that a test can see a slot released."""
        self.submitted: list[TaskRequest] = []
        self._failures_left = self.settings.fail_times
        self._injected: deque[AdapterError] = deque()

    def fail_next(self, code: ErrorCode, *, retry_after_s: float | None = None) -> None:
        """Let one more of the coming tasks fail, before it starts; called several times, several."""
        error = error_named(code, f"injected {code}")
        error.retry_after_s = retry_after_s
        self._injected.append(error)

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        settings = self.settings
        self.submitted.append(task)
        self._check(task)
        output, reason = self._answer_to(task)
        failure = self._next_failure()
        self.running.add(task.job_id)
        try:
            await anyio.lowlevel.checkpoint()
            if failure is not None and settings.fail_after == 0:
                raise failure
            yield Started(
                job_id=task.job_id, engine=self.engine, engine_version="1.0", model=task.model, model_version="1",
                seed=task.seed,
            )  # fmt: skip
            tokens_in = len(task.prompt_token_ids or _prompt(task).split())
            if task.return_token_ids:
                yield TokenIds(prompt=_ids_of(task))
            if task.prompt_logprobs is not None:
                yield PromptLogprobs(tokens=_scored_prompt(task))
            for at, event in enumerate(output):
                if failure is not None and at == settings.fail_after:
                    raise failure
                if settings.hang_after == at:
                    await anyio.sleep_forever()
                await anyio.sleep(settings.delay_s)
                if task.running_usage:
                    yield Metrics(tokens_in=tokens_in, tokens_out=at + 1)
                if task.return_token_ids:
                    yield TokenIds(
                        output=(_id_of(event.arguments if isinstance(event, ToolCallDelta) else event.text),)
                    )
                yield event if task.logprobs is None else _scored(event, task.logprobs)
            if failure is not None:
                raise failure
            if settings.hang_after is not None:
                await anyio.sleep_forever()
            usage = Usage(tokens_in=tokens_in, tokens_out=len(output))
            yield Metrics(tokens_in=usage.tokens_in, tokens_out=usage.tokens_out)
            yield End(finish_reason=reason, usage=usage)
        finally:
            self.running.discard(task.job_id)

    async def _cancel(self, job_id: str) -> CancelReceipt:
        return CancelReceipt(found=True, sent=True, released=True, mode="hard")

    async def _health(self, *, canary: bool) -> HealthReport:
        state = self.settings.state
        ready = state in (HealthState.READY, HealthState.DEGRADED)
        return HealthReport(
            state=state,
            live=state not in (HealthState.UNREACHABLE, HealthState.STOPPED),
            ready=ready,
            models=tuple(ModelHealth(name=name, ready=ready, version="1") for name in self._models()),
            capacity=self._capacity(),
        )

    async def _props(self) -> EngineProps:
        capacity = self._capacity()
        return EngineProps(
            engine=self.engine,
            engine_version="1.0",
            capabilities=self._capabilities(),
            models=tuple(
                ModelProps(
                    name=name,
                    versions=("1",),
                    ready=True,
                    dialect="mock",
                    capabilities=self._capabilities(),
                    cancel_mode="hard",
                )
                for name in self._models()
            ),
            slots_total=capacity.slots_total,
            slots_free=capacity.slots_free,
        )

    async def _infer(self, request: InferRequest) -> InferResponse:
        self._check_model(request.model)
        await anyio.lowlevel.checkpoint()
        wanted = {output.name for output in request.outputs} or {tensor.name for tensor in request.inputs}
        return InferResponse(
            model=request.model,
            model_version="1",
            request_id=request.request_id,
            outputs=tuple(tensor for tensor in request.inputs if tensor.name in wanted),
        )

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        for _ in range(self.settings.responses):
            yield await self._infer(request)

    def _capacity(self) -> Capacity:
        slots = self.settings.slots
        return Capacity(slots_total=slots, slots_free=slots - len(self.running), queued=0, in_flight=len(self.running))

    def _check(self, task: TaskRequest) -> None:
        self._check_model(task.model)
        if task.model_version not in (None, "1"):
            raise ModelNotFound(f"no version {task.model_version!r} of model {task.model!r} here; there is 1")
        for field, given in (
            ("images", task.images),
            ("logprobs", task.logprobs is not None and not self.settings.logprobs),
            ("prompt_logprobs", task.prompt_logprobs is not None and not self.settings.logprobs),
            ("response_format", task.response_format),
            ("tools", task.tools and not self.settings.tool_calls),
            ("chat_template_kwargs", task.chat_template_kwargs),
            ("prompt_token_ids", task.prompt_token_ids and not self.settings.token_ids),
            ("token_ids", task.return_token_ids and not self.settings.token_ids),
        ):
            if given:
                raise errors.Unsupported(f"model {task.model!r} cannot take {field}")
        for name in task.parameters_for(self.engine):
            raise InvalidRequest(f"model {task.model!r} takes no parameter {name!r}")
        if len(self.running) >= self.settings.slots:
            raise errors.Overloaded(f"all {self.settings.slots} slots are busy")

    def _models(self) -> tuple[str, ...]:
        echo = self.settings.echo
        return self.settings.models if echo is None else (*self.settings.models, echo)

    def _check_model(self, model: str) -> None:
        if model not in self._models():
            raise ModelNotFound(f"no model {model!r} here; there are {', '.join(self._models())}")

    def _capabilities(self) -> frozenset[Capability]:
        settings = self.settings
        more = (
            (Capability.TOOLS, settings.tool_calls), (Capability.REASONING, settings.reasoning),
            (Capability.PROMPT_TOKEN_IDS, settings.token_ids), (Capability.TOKEN_IDS, settings.token_ids),
            (Capability.LOGPROBS, settings.logprobs), (Capability.PROMPT_LOGPROBS, settings.logprobs),
        )  # fmt: skip
        return _CAPABILITIES | {capability for capability, has in more if has}

    def _answer_to(self, task: TaskRequest) -> tuple[list[Output], FinishReason]:
        """Return what the engine says: `max_tokens` is for what it thinks and says together."""
        settings = self.settings
        if task.model == settings.echo:
            return _tokens(_echo(task)), "stop"
        most = task.max_tokens or settings.default_max_tokens
        thoughts = [] if settings.reasoning is None else _split(settings.reasoning)
        output: list[Output] = [Reasoning(index, thought) for index, thought in enumerate(thoughts[:most])]
        if task.tools and not (task.messages and task.messages[-1].role == "tool"):
            pieces = _pieces(settings.tool_calls, settings.arguments_cut)
            output += pieces[: most - len(output)]
            return output, "tool_calls" if len(output) == len(thoughts) + len(pieces) else "length"
        text, reason = _cut(self._words(task), task.stop, most - len(output))
        return output + _tokens(text), reason

    def _words(self, task: TaskRequest) -> Iterable[str]:
        if self.settings.reply is not None:
            return _split(self.settings.reply)
        # Without a seed the engine picks one; temperature 0 is greedy and needs none.
        seed = task.seed if task.seed is not None else (0 if task.temperature == 0 else None)
        rng = random.Random(None if seed is None else f"{seed}:{_prompt(task)}")
        return (("" if i == 0 else " ") + rng.choice(_VOCABULARY) for i in itertools.count())

    def _next_failure(self) -> AdapterError | None:
        if self._injected:
            return self._injected.popleft()
        if self.settings.fail is None or self._failures_left == 0:
            return None
        if self._failures_left is not None:
            self._failures_left -= 1
        return error_named(self.settings.fail, f"injected {self.settings.fail}")


_VOCABULARY = ("red", "green", "blue", "one", "two", "three", "river", "stone", "cloud", "naïve", "日本", "🙂")


def error_named(code: str, message: str) -> AdapterError:
    """Return an error of the contract by its code; raises `KeyError` for a code there is not."""
    if code == DeadlineExceeded.code:
        return DeadlineExceeded(message, stage="first_token")
    return _BY_CODE[code](message)


def _all_errors(base: type[AdapterError]) -> Iterable[type[AdapterError]]:
    for error in base.__subclasses__():
        yield error
        yield from _all_errors(error)


# Not the classes that adapters derive for themselves: they share the code of their base.
_BY_CODE = {error.code: error for error in _all_errors(AdapterError) if "code" in vars(error)}


def _ids_of(task: TaskRequest) -> tuple[int, ...]:
    return task.prompt_token_ids or tuple(map(_id_of, _prompt(task).split()))


_LIKELY = 8
"""Words that are likely in a place, as far as `-1` asks for all of them."""


def _id_of(word: str) -> int:
    return crc32(word.encode()) >> 1


def _scored(event: Output, most: int) -> Output:
    if not isinstance(event, Token):
        return event
    id = _id_of(event.text)
    return Token(event.index, event.text, id, -1.0, alternatives=_likeliest(event.text, id, most))


def _scored_prompt(task: TaskRequest) -> tuple[PromptToken, ...]:
    """Return the words of a prompt as tokens, one less likely than the other."""
    assert task.prompt_logprobs is not None
    words = list(map(str, task.prompt_token_ids)) if task.prompt_token_ids else _split(_prompt(task))
    ids = task.prompt_token_ids or tuple(map(_id_of, words))
    first, *rest = zip(words, ids, strict=True)
    return (
        PromptToken(first[0], token_id=first[1]),
        *(
            PromptToken(word, -1.0, id, 1, _likeliest(word, id, task.prompt_logprobs))
            for word, id in rest
        ),
    )  # fmt: skip


def _likeliest(word: str, id: int, most: int) -> tuple[Alternative, ...]:
    """Return a word and others that are made of it, each less likely than the one before; -1: all that there are."""
    most = _LIKELY if most < 0 else most
    others = (Alternative(f"{word}{rank}", -float(rank), _id_of(f"{word}{rank}"), rank) for rank in range(2, most + 1))
    return (Alternative(word, -1.0, id, 1), *others)[:most]


def _prompt(task: TaskRequest) -> str:
    if task.prompt_token_ids is not None:
        return " ".join(map(str, task.prompt_token_ids))
    return task.prompt if task.prompt is not None else "\n".join(message.text for message in task.messages or ())


def _split(text: str) -> list[str]:
    """Pieces that join to `text`, each a word with the blank before it."""
    pieces: list[str] = []
    for word in text.split(" "):
        pieces.append(word if not pieces else f" {word}")
    return pieces


def _echo(task: TaskRequest) -> list[str]:
    """Return what the task asked for, as text: a token of at most sixteen characters each."""
    return _cut_up(task.model_dump_json(exclude_none=True, exclude_defaults=True), 16)


def _cut_up(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _tokens(texts: list[str]) -> list[Output]:
    return [Token(index, text) for index, text in enumerate(texts)]


def _pieces(calls: tuple[MockToolCall, ...], size: int | None) -> list[Output]:
    """Return the pieces of all calls: name and id come with the first, whose arguments are empty if they are cut."""
    pieces: list[Output] = []
    for number, call in enumerate(calls):
        whole = call.arguments if size is None else ""
        pieces.append(ToolCallDelta(number, call.id, call.name, whole))
        if size is not None:
            pieces += [ToolCallDelta(number, arguments=part) for part in _cut_up(call.arguments, size)]
    return pieces


def _cut(words: Iterable[str], stop: tuple[str, ...], max_tokens: int) -> tuple[list[str], FinishReason]:
    kept: list[str] = []
    text = ""
    for word in words:
        if len(kept) == max_tokens:
            return kept, "length"
        ends = [at for s in stop if (at := (text + word).find(s)) >= 0]
        if ends:
            return _trimmed(kept, min(ends), word, text), "stop"
        kept.append(word)
        text += word
    return kept, "stop"


def _trimmed(kept: list[str], end: int, word: str, text: str) -> list[str]:
    """Cut `kept + [word]` to the first `end` characters of the whole text."""
    pieces, left = [], end
    for piece in [*kept, word]:
        if left <= 0:
            break
        pieces.append(piece[:left])
        left -= len(piece)
    return pieces


async def collect(stream: TokenStream, *, timeout_s: float = 30.0) -> list[TokenEvent]:
    """Return every event of a stream; raises `TimeoutError` when it does not end in time."""
    with anyio.fail_after(timeout_s):
        return [event async for event in stream]


def text_of(events: Iterable[TokenEvent]) -> str:
    """Return the text of the tokens among `events`, joined."""
    return "".join(event.text for event in events if isinstance(event, Token))


def reasoning_of(events: Iterable[TokenEvent]) -> str:
    """Return what was thought, as `events` tell it, joined."""
    return "".join(event.text for event in events if isinstance(event, Reasoning))
