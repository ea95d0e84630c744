"""What the reference engine says to a prompt: a pure function."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Literal, NamedTuple

Reason = Literal["stop", "length", "tool_calls"]

ECHO, SPLIT, CUT, NOTHING, THINK = "echo:", "split:", "cut:", "nothing:", "think:"
"""Prompts that begin so are answered with the rest: word by word, byte by byte, the same without the last byte, not
at all, or word by word after some thoughts."""
THOUGHTS = ("Hm", ", let", " me", " see.")
CALLS = (("weather", "w1", ('{"days": 1.0, ', '"city":', ' "Oslo"}')), ("time", None, ('{"zone" :"CET"}',)))
"""What a task with tools is answered with: names, ids where the engine gives one, and arguments in pieces."""

_WORDS = ("river", "stone", "cloud", "bridge", "winter", "lamp", "paper", "seven", "north", "salt")


class Answer(NamedTuple):
    """The pieces of an answer, each one token, and why it ends there; `reason` is `None` when the engine lost it."""

    pieces: tuple[bytes, ...]
    reason: Reason | None
    tokens_in: int
    thoughts: tuple[str, ...] = ()
    """Before the pieces."""
    calls: tuple[tuple[str, str | None, tuple[str, ...]], ...] = ()
    """Behind them."""

    @property
    def tokens_out(self) -> int:
        return len(self.pieces) + len(self.thoughts) + sum(len(arguments) for _, _, arguments in self.calls)


def answer_to(prompt: str, max_tokens: int, stop: tuple[str, ...], seed: int | None, json: bool, tools: bool) -> Answer:
    """Return the answer to a prompt; the same seed and prompt give the same one."""
    tokens_in = len(prompt.split())
    if tools:
        return Answer((b"I", b" ask"), "tool_calls", tokens_in, calls=CALLS)
    if prompt.startswith(SPLIT):
        data = prompt.removeprefix(SPLIT).encode()
        return Answer(tuple(data[at : at + 1] for at in range(len(data))), "stop", tokens_in)
    if prompt.startswith(CUT):
        data = prompt.removeprefix(CUT).encode()[:-1]
        return Answer(tuple(data[at : at + 1] for at in range(len(data))), "stop", tokens_in)
    if prompt.startswith(THINK):
        words = _pieces(ECHO + prompt.removeprefix(THINK), seed, json)
        return Answer(tuple(word.encode() for word in words), "stop", tokens_in, THOUGHTS)
    pieces, reason = _cut(_pieces(prompt, seed, json), stop, max_tokens)
    return Answer(tuple(piece.encode() for piece in pieces), reason, tokens_in)


def mirrored(told: bytes) -> Answer:
    """Return what a model says that answers with what it was told: whole, in small pieces."""
    return Answer(tuple(told[at : at + 16] for at in range(0, len(told), 16)), "stop", 1)


def _pieces(prompt: str, seed: int | None, json: bool) -> Iterable[str]:
    if json:
        return ("{", '"ok"', ": true", "}")
    if prompt.startswith(NOTHING):
        return ()
    if prompt.startswith(ECHO):
        words = prompt.removeprefix(ECHO).split(" ")
        return [word if at == 0 else f" {word}" for at, word in enumerate(words)]
    rng = random.Random(random.random() if seed is None else f"{seed}:{prompt}")
    return (("" if at == 0 else " ") + rng.choice(_WORDS) for at in itertools.count())


def _cut(pieces: Iterable[str], stop: tuple[str, ...], max_tokens: int) -> tuple[list[str], Reason]:
    if not stop:
        kept = list(itertools.islice(pieces, max_tokens + 1))
        return kept[:max_tokens], "length" if len(kept) > max_tokens else "stop"
    kept = []
    text = ""
    for piece in pieces:
        if len(kept) == max_tokens:
            return kept, "length"
        ends = [at for s in stop if (at := (text + piece).find(s)) >= 0]
        if ends:
            return _first([*kept, piece], min(ends)), "stop"
        kept.append(piece)
        text += piece
    return kept, "stop"


def _first(pieces: list[str], characters: int) -> list[str]:
    """Return pieces that hold the first so many characters."""
    kept = []
    for piece in pieces:
        if characters > 0:
            kept.append(piece[:characters])
        characters -= len(piece)
    return kept
