"""Log probabilities of an answer: one token event per token of the engine's, where its tokens join to its text."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from math import isfinite

import msgspec

from adapter_api import Alternative, Token
from openai_adapter.wire.chunks import Logprobs, TokenLogprob

_NO_TEXT = b"\0\xff\0"
"""In place of a token's text where it has none that can be read: nothing that an engine says."""
_UTF8 = codecs.getincrementaldecoder("utf-8")
_AS_ID = "token_id:"
_LEAST = -9999.0
"""For a probability of nothing, which JSON cannot say; vLLM and TensorRT-LLM say this, too."""


class _Entry(msgspec.Struct):
    text: str
    logprob: float | None
    token_id: int | None = None
    alternatives: tuple[Alternative, ...] = ()


class TokenLine:
    """The engine's tokens, in their order, waiting for the text that they make to be shown.

    An engine tells tokens before their text where a stop string might begin in it, and tokens of no text at all: marks
    around tool calls and thoughts, which its parser takes out.

    Args:
        alternatives: How many of them each token gets at most.
    """

    def __init__(self, alternatives: int) -> None:
        self._most = alternatives
        self._waiting: deque[_Entry] = deque()
        """Tokens whose text came."""
        self._early: deque[_Entry] = deque()
        """Tokens whose text did not come yet, or of which only the beginning did."""
        self._begun = 0
        """Characters of the first of those that came."""
        self._utf8 = _UTF8("replace")
        self._shown = ""

    def take(self, text: str, logprobs: Logprobs) -> None:
        """Take a chunk's text and what it says of its tokens."""
        self._early += map(self._entry, _entries(logprobs))
        if text and not self._match(text):
            self._merge(text)

    def _match(self, text: str) -> bool:
        """Let the tokens that make the text wait for it to be shown; return whether there are such."""
        early = self._early
        whole = "".join(entry.text for entry in early)
        if not whole.startswith(text, self._begun):
            if self._begun:
                return False
            # Those before it have no text in the answer. From the end: it may be what somebody thought, too.
            at = len(whole)
            for entry in reversed(early):
                at -= len(entry.text)
                if entry.text and whole.startswith(text, at):
                    break
            else:
                return False
            while at > 0:
                at -= len(early.popleft().text)
        left = self._begun + len(text)
        while early and len(early[0].text) <= left:
            entry = early.popleft()
            left -= len(entry.text)
            self._waiting.append(entry)
        self._begun = left
        return True

    def _merge(self, text: str) -> None:
        """Let one entry wait in place of all tokens that are left: they do not make the text."""
        early, begun = self._early, self._begun
        self._utf8.reset()
        each = [entry.logprob for entry in early]
        joint = sum(value for value in each if value is not None) if each and None not in each else None
        head = early[0].text[:begun] if begun else ""
        self._waiting.append(_Entry(head + text, None if joint is None else _number(joint)))
        early.clear()
        self._begun = 0

    def show(self, text: str, index: int, *, final: bool = False) -> Iterator[Token]:
        """Yield the tokens whose text is shown whole now, from `index` on; with `final` the last may be cut."""
        shown, waiting = self._shown + text, self._waiting
        while waiting and len(waiting[0].text) <= len(shown) and (shown or not final):
            entry = waiting.popleft()
            piece, shown = shown[: len(entry.text)], shown[len(entry.text) :]
            yield Token(index, piece, entry.token_id, entry.logprob, alternatives=entry.alternatives)
            index += 1
        self._shown = "" if final else shown
        if final and shown:
            cut = waiting[0] if waiting else self._early[0] if self._begun else _Entry("", None)
            yield Token(index, shown, cut.token_id, cut.logprob, alternatives=cut.alternatives)

    def _entry(self, told: TokenLogprob) -> _Entry:
        """Return what is told of a token, with whole characters only; one without any text of its own joins to nothing.

        A character that is cut stands at the last of its tokens.
        """
        token_id = told.id
        if told.token is not None and told.token.startswith(_AS_ID) and told.token[len(_AS_ID) :].isdigit():
            token_id = int(told.token[len(_AS_ID) :])
        try:
            data = bytes(told.bytes) if told.bytes is not None else (told.token or "").encode()
        except (ValueError, UnicodeError):
            data = _NO_TEXT
        alternatives = tuple(
            Alternative(other.token, _number(other.logprob), other.id)
            for other in (told.top_logprobs or ())[: self._most]
            if other.token is not None and other.logprob is not None
        )
        logprob = None if told.logprob is None else _number(told.logprob)
        return _Entry(self._utf8.decode(data), logprob, token_id, alternatives)


def _number(logprob: float) -> float:
    return logprob if isfinite(logprob) else _LEAST


def _entries(logprobs: Logprobs) -> Iterator[TokenLogprob]:
    if logprobs.content is not None:
        yield from logprobs.content
        return
    tokens, values, tops = logprobs.tokens or [], logprobs.token_logprobs or [], logprobs.top_logprobs or []
    for place, token in enumerate(tokens):
        top = (tops[place] if place < len(tops) else None) or {}
        yield TokenLogprob(
            token=token,
            logprob=values[place] if place < len(values) else None,
            top_logprobs=[
                TokenLogprob(token=other, logprob=value)
                for other, value in sorted(top.items(), key=lambda item: -item[1])
            ],
        )
