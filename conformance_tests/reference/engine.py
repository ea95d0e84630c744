"""An engine without a network: it takes orders, hands out pieces of bytes, and counts what it does."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

import anyio
import anyio.lowlevel
import msgspec

from adapter_api import Sequence, Tensor
from conformance_tests.reference.answers import Answer, answer_to, mirrored

MIRROR, SLOW = "mirror", "slow"
"""Models: one answers with what it was told; one takes its time, for tensors."""

SLOW_S = 0.8
VERSIONS = ("1", "2")
"""Of every model, the default last."""


class Unreachable(Exception):
    """The engine is not there, or the connection to it broke."""


class Broken(Unreachable):
    """The connection broke while the engine was at work."""


class Fault(Exception):
    """The engine refuses or fails; `kind` says how in words of its own, which happen to be the contract's. `quotes` are
    words of the task that it repeats."""

    def __init__(
        self, kind: str, retry_after_s: float | None = None, subject: str = "the task", quotes: str = ""
    ) -> None:
        super().__init__(f"the engine says {kind} to {subject} {quotes}".rstrip())
        self.kind = kind
        self.subject = subject
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Order:
    """What the engine is sent."""

    model: str
    prompt: str
    max_tokens: int = 16
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json: bool = False
    tools: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    """What else the task asks for, by name."""
    model_version: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    """The prompt as ids, where it came so."""


class Piece(NamedTuple):
    """One token of the answer, as bytes that may end inside a character; of a tool call, of its arguments."""

    data: bytes
    token_id: int
    logprob: float
    kind: Literal["text", "thought", "call"] = "text"
    call: int = 0
    name: str | None = None
    id: str | None = None


class Mode(Enum):
    UP = "up"
    UNREADY = "unready"
    PAUSED = "paused"
    DOWN = "down"


@dataclass
class Engine:
    """Serves text and tensors to adapters in the same event loop."""

    release_s: float = 0.0
    """Seconds that the engine takes to let go of an aborted job."""
    models: tuple[str, ...] = ("tiny", "echo", "swap", "repeat", "sum", MIRROR, SLOW)
    slots: int = 1000
    pace_s: float = 0.002
    """Seconds that the engine takes for one piece, or for an inference."""
    mode: Mode = Mode.UP
    jobs: list[Job] = field(default_factory=list)
    inferences: int = 0
    inferring: int = 0
    """Inferences that it works on now."""
    cuts: int = 0
    """How often the connections were cut."""
    quotes: bool = False
    """Whether the next failure repeats the prompt."""
    emitted: int = 0
    failures: deque[Fault] = field(default_factory=deque)
    sequences: dict[int | str, bytes] = field(default_factory=dict)
    _change: anyio.Event | None = None

    def set_mode(self, mode: Mode) -> None:
        self.mode = mode
        if mode is Mode.DOWN:
            self.drop_streams()
        self._notify()

    def drop_streams(self) -> None:
        for job in self.jobs:
            job.broken = True
        self.jobs.clear()
        self.cuts += 1
        self._notify()

    def busy(self) -> list[Job]:
        """Return the jobs that hold a slot now."""
        now = anyio.current_time()
        self.jobs = [job for job in self.jobs if job.gone_at is None or job.gone_at > now]
        return self.jobs

    async def submit(self, order: Order) -> Job:
        """Take an order; raises `Unreachable` or `Fault`."""
        await self.answer()
        failure = self.failures.popleft() if self.failures else None
        if failure is not None and failure.kind == "connect_failed":
            raise Unreachable("connection refused")
        self.inferences += 1
        if failure is not None and failure.kind not in _LATE:
            raise failure
        if self.mode is Mode.UNREADY:
            raise Fault("not_ready")
        if order.model not in self.models or order.model_version not in (None, *VERSIONS):
            raise Fault("model_not_found")
        if self.quotes:
            self.quotes = False
            raise Fault("engine_failed", quotes=order.prompt)
        if len(self.busy()) >= self.slots:
            raise Fault("overloaded")
        job = Job(self, order, failure)
        self.jobs.append(job)
        return job

    async def infer(self, model: str, inputs: tuple[Tensor, ...], sequence: Sequence | None = None) -> list[Tensor]:
        """Return `inputs` under the names of the outputs, in the reverse order; `sum` adds up over a sequence."""
        await self.answer()
        self.inferences += 1
        if model not in self.models:
            raise Fault("model_not_found")
        for tensor in inputs:
            if not tensor.name.startswith("INPUT"):
                raise Fault("invalid_request", subject=tensor.name)
            if model == "swap" and tensor.datatype != "BYTES":
                raise Fault("invalid_request", subject=tensor.name)
        if sequence is not None:
            inputs = (self._add_up(sequence, inputs[0]),)
        cuts = self.cuts
        self.inferring += 1
        try:
            await anyio.sleep(SLOW_S if model == SLOW else self.pace_s)
        finally:
            self.inferring -= 1
        if self.cuts != cuts:
            raise Broken("connection reset")
        return [Tensor(t.name.replace("INPUT", "OUTPUT"), t.datatype, t.shape, bytes(t.data)) for t in inputs[::-1]]

    def _add_up(self, sequence: Sequence, tensor: Tensor) -> Tensor:
        """Append the first byte of the input to what the sequence has had so far and return the last two."""
        so_far = b"" if sequence.start else self.sequences.get(sequence.id, b"")
        self.sequences[sequence.id] = so_far + bytes(tensor.data[:1])
        return Tensor(tensor.name, "UINT8", (2,), (b"\x00" + self.sequences[sequence.id])[-2:])

    async def answer(self) -> None:
        """Wait while the engine is paused; raises `Unreachable` when it is down."""
        await anyio.lowlevel.checkpoint()
        await self.wait_while(lambda: self.mode is Mode.PAUSED)
        if self.mode is Mode.DOWN:
            raise Unreachable("connection refused")

    async def wait_while(self, holds: Callable[[], bool]) -> None:
        while holds():
            self._change = self._change or anyio.Event()
            await self._change.wait()

    def _notify(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None


_LATE = frozenset({"connection_lost", "stream_incomplete", "protocol_violation", "engine_failed"})
"""Failures that show only after the first piece."""


class Job:
    """One order in the engine. It holds a slot until its last piece is taken or it is aborted."""

    def __init__(self, engine: Engine, order: Order, failure: Fault | None) -> None:
        self.answer: Answer = (
            mirrored(_told(order))
            if order.model == MIRROR
            else answer_to(order.prompt, order.max_tokens, order.stop, order.seed, order.json, order.tools)
        )
        told = tuple(range(self.answer.tokens_in))
        self.prompt_ids: tuple[int, ...] = told if order.prompt_ids is None else order.prompt_ids
        self.broken = False
        self.gone_at: float | None = None
        self._engine = engine
        self._failure = failure
        self._pieces = self._cut(random.Random(0))
        self._taken = 0

    async def next(self) -> Piece | None:
        """Return the next piece, `None` after the last one; raises `Unreachable` or `Fault`."""
        await anyio.sleep(self._engine.pace_s)
        await self._engine.wait_while(lambda: self._engine.mode is Mode.PAUSED and not self.broken)
        if self.broken:
            raise Unreachable("connection reset")
        if self._failure is not None and self._taken > 0:
            return self._fail(self._failure)
        piece = next(self._pieces, None)
        if piece is None:
            self.abort()
        else:
            self._taken += 1
            self._engine.emitted += 1
        return piece

    def abort(self) -> None:
        """Let the slot go, as soon as the engine can."""
        if self.gone_at is None:
            self.gone_at = anyio.current_time() + self._engine.release_s

    def _fail(self, failure: Fault) -> Piece | None:
        self.abort()
        self._failure, self._pieces = None, iter(())
        if failure.kind == "connection_lost":
            raise Unreachable("connection reset")
        if failure.kind == "protocol_violation":
            return Piece(b"\xff\xff", 0, 0.0)
        if failure.kind == "stream_incomplete":
            self.answer = self.answer._replace(reason=None)
            return None
        raise failure

    def _cut(self, rng: random.Random) -> Iterator[Piece]:
        for thought in self.answer.thoughts:
            yield Piece(thought.encode(), 0, 0.0, "thought")
        for data in self.answer.pieces:
            yield Piece(data, token_id=len(data), logprob=-math.log(1 + rng.randrange(1, 9)))
        for number, (name, id, arguments) in enumerate(self.answer.calls):
            yield Piece(arguments[0].encode(), 0, 0.0, "call", number, name, id)
            for more in arguments[1:]:
                yield Piece(more.encode(), 0, 0.0, "call", number)


def _told(order: Order) -> bytes:
    """Return what a model answers that answers with what it was told."""
    version = VERSIONS[-1] if order.model_version is None else order.model_version
    fields = dict(order.options) | ({} if order.prompt_ids is None else {"prompt_token_ids": order.prompt_ids})
    return msgspec.json.encode({"text": order.prompt, "fields": fields, "model_version": version})
