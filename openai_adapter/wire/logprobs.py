"""Log probabilities of an answer: one token event per token of the engine's, where its tokens join to its text."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from math import isfinite

import msgspec

from adapter_api import Alternative, Token
from openai_adapter.wire.chunks import Logprobs, TokenLogprob

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

    Args:
        alternatives: How many of them each token gets at most.
    """

    def __init__(self, alternatives: int) -> None:
        self._most = alternatives
        self._waiting: deque[_Entry] = deque()
        self._early: list[TokenLogprob] = []
        """Entries that came without text: of a character that is not complete yet, or of the token that ends it all."""
        self._utf8 = _UTF8("replace")
        self._shown = ""

    def take(self, text: str, logprobs: Logprobs) -> None:
        """Take a chunk's text and what it says of its tokens."""
        entries = [*self._early, *_entries(logprobs)]
        if not text:
            self._early = entries
            return
        self._early = []
        joined = self._joined(entries)
        if joined is None or not "".join(entry.text for entry in joined).startswith(text):
            joined = [self._merged(entries, text)]
        self._waiting += joined

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
            cut = waiting[0] if waiting else _Entry("", None)
            yield Token(index, shown, cut.token_id, cut.logprob, alternatives=cut.alternatives)

    def _joined(self, entries: list[TokenLogprob]) -> list[_Entry] | None:
        """Return an entry per token, with whole characters only; `None` where one has no text of its own."""
        found = []
        for each in entries:
            token_id = each.id
            if each.token is not None and each.token.startswith(_AS_ID) and each.token[len(_AS_ID) :].isdigit():
                token_id = int(each.token[len(_AS_ID) :])
            try:
                data = bytes(each.bytes) if each.bytes is not None else (each.token or "").encode()
            except (ValueError, UnicodeError):
                return None
            alternatives = tuple(
                Alternative(other.token, _number(other.logprob), other.id)
                for other in (each.top_logprobs or ())[: self._most]
                if other.token is not None and other.logprob is not None
            )
            logprob = None if each.logprob is None else _number(each.logprob)
            found.append(_Entry(self._utf8.decode(data), logprob, token_id, alternatives))
        return found

    def _merged(self, entries: list[TokenLogprob], text: str) -> _Entry:
        """Return one entry for all of them: their tokens do not make the text."""
        self._utf8.reset()
        each = [entry.logprob for entry in entries]
        joint = sum(value for value in each if value is not None) if each and None not in each else None
        return _Entry(text, None if joint is None else _number(joint))


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
