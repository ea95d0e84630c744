"""From chunks to events. What differs between engines is told by the chunks themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import (
    Capability,
    End,
    EngineFailed,
    FinishReason,
    Metrics,
    PromptLogprobs,
    Reasoning,
    TaskRequest,
    Token,
    TokenEvent,
    TokenIds,
    Unsupported,
    Usage,
)
from adapter_kit.stops import StopCutter
from openai_adapter.wire.chunks import (
    Choice,
    Chunk,
    Counts,
    Delta,
    Part,
    ToolCallPiece,
    counts,
    logprobs,
    token_ids,
    whole,
)
from openai_adapter.wire.logprobs import TokenLine
from openai_adapter.wire.prompt_logprobs import answer_alone, prompt_tokens
from openai_adapter.wire.request import NAMESPACE
from openai_adapter.wire.tool_calls import ToolCalls, whole_calls

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # Of engines that pass on their own words.
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "cancelled": "cancelled",
}
_NONE = frozenset({"", "null", "none"})
"""Words of engines that write a reason into every chunk, also while there is none."""
_TOLD_AS_STOP = ("unknown", "cancelled")
"""What this project's host tells OpenAI's clients as `stop`, which know no such words, and says beside it."""
_FAILED = frozenset({"abort", "aborted", "error", "insufficient_system_resource", "network_error"})
_HIGH = ("\ud800", "\udbff")

PAST_STOP = 8
"""Chunks with text that are read after a stop string, for the usage that may follow: an engine that does not stop by
itself is stopped then."""


class Decoder:
    """Turns the chunks of one answer into events: `feed` each, then `finish` once."""

    __slots__ = (
        "_calls", "_choice", "_counted", "_cutter", "_ids", "_line", "_prompt", "_prompt_text", "_running",
        "_shows_running", "_surrogate", "fingerprint", "index", "lacks", "past_stop", "plain", "reason", "reasoned",
        "says_ids", "says_logprobs", "stop_reason",
    )  # fmt: skip

    def __init__(self, task: TaskRequest) -> None:
        self._cutter = StopCutter(task.stop) if _are_cut(task) else None
        self._line = None if task.logprobs is None else TokenLine(task.logprobs)
        self._ids: bool = task.return_token_ids
        """Whether token ids are told."""
        self.says_ids = False
        """Whether they came with the answer."""
        self._prompt: int | None = task.prompt_logprobs
        """How many of the likeliest are told for each token of the prompt, until that was told."""
        self._prompt_text = task.prompt
        self.lacks = Capability.LOGPROBS
        """What the engine was asked for and does not give, when `feed` raises `Unsupported`."""
        self._shows_running: bool = task.running_usage
        self.says_logprobs = False
        """Whether log probabilities came with the text."""
        self._calls: ToolCalls | None = None
        self.reasoned = 0
        """Pieces of thinking that came."""
        self._running: Counts | None = None
        """What the last chunk with choices counted; some engines count in each."""
        self._counted: list[Counts] = []
        """What chunks for nothing else counted: they add up."""
        self._choice: int | None = None
        """The place of the choice that is read: the first that comes, since some engines count from one."""
        self._surrogate = ""
        self.plain = self._cutter is None and self._line is None
        """Whether a text is shown as it comes."""
        self.index = 0
        self.reason: str | None = None
        """Why the engine ended the answer, in its own word; `None` until it says so."""
        self.stop_reason: str | int | None = None
        """The stop string or token that ended it, where the engine tells."""
        self.past_stop = 0
        """Chunks with text since a stop string was met."""
        self.fingerprint: str | None = None

    @property
    def calls(self) -> int:
        """How many tool calls began."""
        return 0 if self._calls is None else self._calls.count

    @property
    def heard_enough(self) -> bool:
        """Whether the answer is over although the engine goes on: it does not heed a stop string."""
        return self.past_stop >= PAST_STOP

    def feed(self, chunk: Chunk, found: list[TokenEvent]) -> None:
        """Add the events that a chunk makes to `found`.

        Raises:
            Unsupported: Log probabilities were asked for, and the engine gives none with its text.
            EngineFailed: The engine says that it gave up.
        """
        choices = chunk.choices
        if chunk.usage is not None and (counted := counts(chunk.usage)) is not None:
            if choices:
                self._running = counted
                if self._shows_running:
                    found.append(Metrics(tokens_in=counted.prompt_tokens, tokens_out=counted.completion_tokens))
            else:
                self._counted.append(counted)
        if isinstance(chunk.system_fingerprint, str):
            self.fingerprint = chunk.system_fingerprint
        for choice in choices or ():
            # One completion is asked for: what an engine gives beside it is nobody's.
            place = choice.index or 0
            if place.__class__ is not int:
                place = whole(place) or 0
            if self._choice is None:
                self._choice = place
            elif place != self._choice:
                continue
            if self._ids:
                self._feed_ids(chunk, choice, found)
            if self._prompt is not None:
                self._feed_prompt(chunk, choice, found)
            self._feed_choice(choice, found)
        if self._ids and not self.says_ids and any(isinstance(event, Token) for event in found):
            self.lacks = Capability.TOKEN_IDS
            raise Unsupported("the engine tells no token ids although they were asked for; leave them out")

    def finish(self) -> tuple[list[TokenEvent], End]:
        """Return what was held back and the end; no more chunks come.

        Raises:
            ProtocolViolation: A tool call has no name.
        """
        held: list[TokenEvent] = []
        text = "\N{REPLACEMENT CHARACTER}" if self._surrogate else ""
        self._surrogate = ""
        if self._cutter is not None:
            text = self._cutter.feed(text) + self._cutter.finish()
        if self._line is not None:
            held += self._line.show(text, self.index, final=True)
        elif text:
            held.append(Token(self.index, text))
        self.index += len(held)
        if self._calls is not None:
            held += self._calls.finish()
        return held, End(finish_reason=self._finish_reason(), usage=self._usage(), stop_reason=self.stop_reason)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _feed_choice(self, choice: Choice, found: list[TokenEvent]) -> None:
        delta = choice.delta or choice.message
        if delta is None:
            if choice.text or choice.logprobs is not None:
                self._feed_text(choice.text or "", choice, found)
        else:
            if delta.reasoning_content is not None or delta.reasoning is not None:
                self._feed_reasoning(_first_text(delta.reasoning_content, delta.reasoning), found)
            content = delta.content
            if content is not None and not isinstance(content, str):
                content = self._feed_parts(content if isinstance(content, list) else [content], found)
            # Tokens of thoughts and of calls are none of the text.
            is_beside = delta.reasoning_content or delta.reasoning or delta.tool_calls
            if content or (choice.logprobs is not None and not is_beside):
                self._feed_text(content or "", choice, found)
            if delta.refusal and isinstance(delta.refusal, str):
                self._feed_text(delta.refusal, choice, found)
            if delta.tool_calls or delta.function_call is not None:
                self._feed_calls(delta, found, at_once=choice.delta is None)
        if choice.finish_reason:
            reason = _word(choice.finish_reason)
            if reason in _FAILED:
                raise EngineFailed(f"the engine gave up on the task: finish reason {reason!r}")
            if reason == "stop" and choice.engine_finish_reason in _TOLD_AS_STOP:
                reason = choice.engine_finish_reason
            if reason not in _NONE:
                self.reason = reason
                told = choice.stop_reason
                self.stop_reason = told if isinstance(told, str | int) and not isinstance(told, bool) else None

    def _feed_ids(self, chunk: Chunk, choice: Choice, found: list[TokenEvent]) -> None:
        prompt = () if self.says_ids else token_ids(chunk.prompt_token_ids or choice.prompt_token_ids)
        output = token_ids(choice.token_ids)
        if prompt or output:
            self.says_ids = True
            found.append(TokenIds(prompt=prompt, output=output))

    def _feed_prompt(self, chunk: Chunk, choice: Choice, found: list[TokenEvent]) -> None:
        """Tell how likely the prompt is, and leave in the choice what belongs to the answer."""
        told = chunk.prompt_logprobs or choice.prompt_logprobs
        if not told:
            self.lacks = Capability.PROMPT_LOGPROBS
            raise Unsupported("the engine tells no 'prompt_logprobs' although they were asked for; leave them out")
        assert self._prompt is not None
        said = logprobs(choice.logprobs) if choice.text is not None else None
        echoed = [] if said is None else said.tokens or []
        tokens = prompt_tokens(told, token_ids(chunk.prompt_token_ids or choice.prompt_token_ids), echoed, self._prompt)
        found.append(PromptLogprobs(tokens=tokens))
        self._prompt = None
        if choice.text is not None:
            choice.text, left = answer_alone(choice.text, said, len(tokens), self._prompt_text)
            choice.logprobs = None if left is None else msgspec.to_builtins(left)

    def _feed_text(self, text: str, choice: Choice, found: list[TokenEvent]) -> None:
        if self._surrogate or not _sound(text):
            text = self._whole_characters(text)
        if self.plain:
            if text:
                found.append(Token(self.index, text))
                self.index += 1
            return
        cutter, line = self._cutter, self._line
        if cutter is not None and cutter.stopped:
            self.past_stop += bool(text)
            return
        shown = text if cutter is None else cutter.feed(text)
        if line is None:
            if shown:
                found.append(Token(self.index, shown))
                self.index += 1
            return
        said = logprobs(choice.logprobs)
        if said is not None:
            self.says_logprobs = True
            line.take(text, said)
        elif text and not self.says_logprobs:
            raise Unsupported(
                "the engine gives no log probabilities although they were asked for; leave `logprobs` out"
            )
        stopped = cutter is not None and cutter.stopped
        for token in line.show(shown, self.index, final=stopped):
            found.append(token)
            self.index += 1

    def _whole_characters(self, text: str) -> str:
        """Join the halves of a character that were cut between two chunks; a half alone is U+FFFD."""
        text, self._surrogate = self._surrogate + text, ""
        if text and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._surrogate = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _feed_reasoning(self, text: str, found: list[TokenEvent]) -> None:
        if not _sound(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if text:
            found.append(Reasoning(self.reasoned, text))
            self.reasoned += 1

    def _feed_parts(self, parts: list[Part | str], found: list[TokenEvent]) -> str:
        """Tell the thinking in a content of parts and return its text."""
        for part in parts:
            if not isinstance(part, str) and part.thinking:
                thinking = part.thinking
                self._feed_reasoning(
                    thinking if isinstance(thinking, str) else "".join(each.text or "" for each in thinking), found
                )
        return "".join(part if isinstance(part, str) else part.text or "" for part in parts)

    def _feed_calls(self, delta: Delta, found: list[TokenEvent], *, at_once: bool) -> None:
        if self._cutter is not None and self._cutter.stopped:
            return  # the answer was over before it
        calls = self._calls = self._calls or ToolCalls()
        pieces = delta.tool_calls or []
        if delta.function_call is not None:
            pieces = [*pieces, ToolCallPiece(index=0, function=delta.function_call)]
        found += calls.take(whole_calls(pieces) if at_once else pieces)

    def _finish_reason(self) -> FinishReason:
        if self._cutter is not None and self._cutter.stopped:
            return "stop"
        reason = _REASONS.get(self.reason or "", "unknown")
        # With a named tool engines say that they stopped, and mean that the call is complete.
        return "tool_calls" if reason == "stop" and self.calls else reason

    def _usage(self) -> Usage:
        counted = self._counted or ([] if self._running is None else [self._running])
        return Usage(
            tokens_in=_total([each.prompt_tokens for each in counted]),
            tokens_out=_total([each.completion_tokens for each in counted]),
            tokens_in_cached=_total([each.cached_tokens for each in counted]),
            tokens_out_reasoning=_total([each.reasoning_tokens for each in counted]),
        )


def _are_cut(task: TaskRequest) -> bool:
    """Return whether no stop string may be in the answer. An engine that takes one of these two cuts by itself: it is
    to leave them in, or to look for them only behind so many tokens."""
    wanted = task.parameters.get(f"{NAMESPACE}.include_stop_str_in_output", False)
    return bool(task.stop) and not wanted and not task.min_tokens


def _first_text(*values: Any) -> str:
    # Engines that changed the name give both for a while, with the same text.
    return next((value for value in values if isinstance(value, str) and value), "")


def _word(reason: Any) -> str:
    """Return a finish reason as one word in lower case; some engines give an object with its type."""
    word = reason.get("type") if isinstance(reason, dict) else reason
    return word.strip().lower()[:100] if isinstance(word, str) else "unknown"


def _total(told: list[int | None]) -> int | None:
    found = [each for each in told if each is not None]
    return sum(found) if found else None


def _sound(text: str) -> bool:
    """Whether it has no half of a character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
