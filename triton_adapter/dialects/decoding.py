"""Reads the replies of models that answer with text."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec

from adapter_api import (
    Alternative,
    End,
    EngineFailed,
    FinishReason,
    Metrics,
    ProtocolViolation,
    StreamIncomplete,
    Token,
    Usage,
)
from triton_adapter.codec import TensorTextAssembler, first_text, pack_texts, read_count, read_numbers
from triton_adapter.schema import RawTensor, Reply, Run

Outputs = Mapping[str, RawTensor]


class Score(NamedTuple):
    """How likely the text of a reply was; `token_id` and `alternatives` where it is one token."""

    logprob: float | None = None
    token_id: int | None = None
    alternatives: tuple[Alternative, ...] = ()


LogprobReader = Callable[[Outputs], Score]


class Scorer(Protocol):
    """Says of each part of a text how likely it was; what it returns becomes an event each, in this order."""

    def take(self, text: str, outputs: Outputs) -> Iterable[tuple[str, Score]]:
        """Take the text that a reply lets be shown, and the reply."""

    def finish(self, text: str) -> Iterable[tuple[str, Score]]:
        """Take what was held back of the text; no more replies come."""


class ReplyScorer:
    """One event per reply, even if its text is held back, so that every logprob is seen."""

    def __init__(self, read: LogprobReader) -> None:
        self._read = read

    def take(self, text: str, outputs: Outputs) -> Iterable[tuple[str, Score]]:
        yield text, self._read(outputs)

    def finish(self, text: str) -> Iterable[tuple[str, Score]]:
        yield text, Score()


TEXT_DATATYPES = frozenset({"BYTES"})
"""Of an output that says why a text ended."""
COUNT_DATATYPES = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
"""Of an output that counts tokens."""

_uint32 = struct.Struct("<I").unpack_from
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    # The same in the words of other engines.
    "eos": "stop",
    "eos_token": "stop",
    "end_id": "stop",
    "end_turn": "stop",
    "stop_words": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_new_tokens": "length",
    "function_call": "tool_calls",
    # No failure, and none of the contract's reasons: vLLM ends a text that repeats itself.
    "repetition": "unknown",
    # Nothing was said.
    "": "unknown",
    "none": "unknown",
    "not_finished": "unknown",
}
"""Words of engines, without what comes before a last point: `FinishReason.STOP` is `stop`. Every other one, as `error`
(vLLM), `timeout` (TensorRT-LLM), or `abort` that nobody asked for, says that the text is not what was asked for."""
_UNCOUNTED = Usage()
_NOTHING: Outputs = MappingProxyType({})
_NOTHING_SAID = frozenset({"", "none", "not_finished"})
_WORD = 40


class Reading(msgspec.Struct, frozen=True):
    """Which outputs of a model say what; `None` where it does not say.

    A msgspec struct because one is made per task: a tenth of a frozen dataclass's price.
    """

    text: str
    finish_reason: str | None = None
    always_says_why: bool = False
    """Whether the engine never ends a text without a reason: one that has none broke off."""
    tokens_in: str | None = None
    tokens_out: str | None = None
    """Counts the tokens of each reply, not of the task so far."""
    cumulative: bool | None = False
    stops: tuple[str, ...] = ()
    """Stop strings to look for on our side."""
    max_tokens: int | None = None
    running_usage: bool = False
    """Whether a `Metrics` event tells what was counted, with each reply that counts."""
    scorer: Scorer | None = None
    figures: bool = False
    """Whether other numbers in the replies go into a `Metrics` event at the end."""
    known: frozenset[str | None] = frozenset()
    """Outputs that are no such figures."""


class Assembler(Protocol):
    """Makes the text of a stream, piece by piece, from the output that holds it."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""

    def take(self, tensor: RawTensor, outputs: Outputs) -> str:
        """Take the next piece, and what came with it; return what may be shown now, often nothing."""

    def finish(self) -> str:
        """Return what was held back; no more pieces come."""


class TextDecoder:
    """A `TaskDecoder` for replies whose text one output holds, in the form that the assembler reads."""

    def __init__(self, reading: Reading, assembler: Assembler | None = None) -> None:
        self.done = False
        self._reading = reading
        self._text_output = reading.text
        self._tokens_output = reading.tokens_out
        self._scorer = reading.scorer
        self._figures: dict[str, float | int | str] | None = {} if reading.figures else None
        self._assembler = assembler or TensorTextAssembler(cumulative=reading.cumulative, stops=reading.stops)
        self._stopping = bool(reading.stops)
        self._index = 0
        self._tokens_out = 0
        self._like: Outputs = _NOTHING
        """Those of the last reply."""
        self._first: Outputs = _NOTHING
        self._last: Outputs = _NOTHING

    def again(self) -> TextDecoder | None:
        """Return a new decoder for another task of the same shape; `None`: a part of this one is the task's own."""
        if self._scorer is not None or type(self._assembler) is not TensorTextAssembler:
            return None
        return TextDecoder(self._reading)

    def feed(self, reply: Reply, events: list[Any]) -> None:
        outputs = reply.outputs
        if not outputs or self.done:
            return
        if self._tokens_output is not None:
            counted = outputs.get(self._tokens_output)
            if counted is not None:
                data = counted.data
                plain = len(data) == 4 and counted.datatype == "UINT32"
                self._tokens_out += _uint32(data)[0] if plain else read_count(counted) or 0
        self._like = outputs
        if self._figures is not None:
            self._note_figures(outputs)
        if not self._first:
            self._first = outputs
        tensor = outputs.get(self._text_output)
        if tensor is None:
            # Some models tell why and how many in messages of their own: these do not outdate each other.
            self._last = {**self._last, **outputs}
            return
        self._last = outputs
        if self._reading.running_usage and (so_far := self._usage()) != _UNCOUNTED:
            events.append(Metrics(tokens_in=so_far.tokens_in, tokens_out=so_far.tokens_out))
        text = self._assembler.take(tensor, outputs)
        if self._stopping and self._assembler.stopped:
            self.done = True
        if self._scorer is not None:
            self._add_scored(self._scorer.take(text, outputs), events)
        elif text:
            index = self._index
            self._index = index + 1
            events.append(Token(index, text))

    def feed_run(self, run: Run, events: list[Any]) -> None:
        outputs, assembler = self._like, self._assembler
        name = next(iter(outputs))
        each_alone = self._scorer is not None or self._reading.running_usage
        if name != self._text_output or each_alone or not isinstance(assembler, TensorTextAssembler):
            for text in run.texts:
                shape = outputs[name].shape
                self.feed(Reply({**outputs, name: RawTensor("BYTES", shape, pack_texts((text,)))}), events)
            return
        if self.done:
            return
        texts = run.texts
        if len(texts) == 1 and assembler.plain and self._tokens_output is None and texts[0].isascii():
            if texts[0]:
                events.append(Token(self._index, texts[0].decode()))
                self._index += 1
            return
        try:
            shown = [text.decode() for text in texts] if assembler.plain else []
        except UnicodeDecodeError:
            shown = []  # one of them ends inside a character
        if not shown:
            for taken, text in enumerate(texts, 1):
                shown.append(assembler.feed(text))
                if self._stopping and assembler.stopped:
                    self.done = True
                    texts = texts[:taken]
                    break
        if self._tokens_output is not None and (counted := outputs.get(self._tokens_output)) is not None:
            self._tokens_out += len(texts) * (read_count(counted) or 0)
        if "" in shown:
            shown = [text for text in shown if text]
        index = self._index
        self._index = index + len(shown)
        events.extend(map(Token, range(index, self._index), shown))

    def finish(self) -> tuple[list[Token | Metrics], End]:
        text = self._assembler.finish()
        events: list[Token | Metrics] = []
        if self._scorer is not None:
            # The probability of what was held back has been told with its tokens: what is left of it is 1.
            self._add_scored(self._scorer.finish(text), events, untold=0.0)
        elif text:
            events.append(Token(self._index, text))
        if self._figures:
            events.append(Metrics(engine=self._figures))
        return events, End(finish_reason=self._finish_reason(), usage=self._usage())

    def _add_scored(self, parts: Iterable[tuple[str, Score]], events: list[Any], untold: float | None = None) -> None:
        for text, score in parts:
            if text or score.logprob is not None:
                logprob = untold if score.logprob is None else score.logprob
                events.append(
                    Token(self._index, text, token_id=score.token_id, logprob=logprob, alternatives=score.alternatives)
                )
                self._index += 1

    def _finish_reason(self) -> FinishReason:
        if self.done:
            return "stop"
        reading = self._reading
        said = self._said(reading.finish_reason)
        if said is not None:
            # Engines print Python values: `stop`, `FinishReason.STOP`, `None` while there is no reason.
            reason = first_text(said.data).decode(errors="replace").rpartition(".")[2].lower()
            known = _FINISH_REASONS.get(reason)
            if known == "unknown" and reading.always_says_why and reason in _NOTHING_SAID:
                raise StreamIncomplete("the engine ended the stream without a reason: the text broke off")
            if known is None:
                raise EngineFailed(
                    f"the engine ended the text with {reason[:_WORD]!r}, which is no success; try again", retryable=True
                )
            return known
        elif reading.always_says_why:
            raise StreamIncomplete("the engine ended the stream without a reason: the text broke off")
        # Fewer tokens than asked for prove nothing: a context that is full ends a text, too.
        full = reading.max_tokens is not None and self._tokens_out >= reading.max_tokens
        return "length" if full else "unknown"

    def _usage(self) -> Usage:
        counted = self._said(self._reading.tokens_in)
        return Usage(
            tokens_in=None if counted is None else read_count(counted),
            tokens_out=None if self._said(self._reading.tokens_out) is None else self._tokens_out,
        )

    def _said(self, output: str | None) -> RawTensor | None:
        """What the last reply that can know says, or the first: some engines count the prompt only once."""
        if output is None:
            return None
        return self._last.get(output) or self._first.get(output)

    def _note_figures(self, outputs: Outputs) -> None:
        assert self._figures is not None
        for name, tensor in outputs.items():
            if name not in self._reading.known:
                value = _single(tensor)
                if value is not None:
                    self._figures[name] = value


def _single(tensor: RawTensor) -> Any:
    if tensor.datatype == "BYTES":
        try:
            return first_text(tensor.data).decode(errors="replace")
        except ProtocolViolation:
            return None
    numbers = read_numbers(tensor)
    return numbers[0] if len(numbers) == 1 else None
