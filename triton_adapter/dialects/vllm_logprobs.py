"""What vLLM's backend says of the probabilities of its tokens: a JSON text with an object per step."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite

import msgspec

from adapter_api import Alternative, ProtocolViolation
from triton_adapter.codec import first_text
from triton_adapter.dialects.decoding import Outputs, Score
from triton_adapter.dialects.steps import Piece, StepTexts

LOGPROBS = "logprobs"
"""The output's name."""


class _Entry(msgspec.Struct, gc=False):
    logprob: float
    decoded_token: str | None = None


# One object per step, its first entry the chosen token, the others those that could have been.
_Step = dict[int, _Entry]
_Steps = list[_Step | None] | None


class VllmScorer:
    """One event per step, also of steps that vLLM joined into one message, with its `wanted` likeliest alternatives.

    Steps that cannot be told apart in the text have one event with their joint probability and nothing else.
    `behind` is how many characters vLLM holds back for the task's stop strings.
    """

    def __init__(self, wanted: int, behind: int) -> None:
        self._wanted = wanted
        self._texts: StepTexts[_Step] = StepTexts(behind)

    def take(self, text: str, outputs: Outputs) -> Iterable[tuple[str, Score]]:
        steps = [(step, next(iter(step.values())).decoded_token) for step in _read(outputs)]
        return map(self._scored, self._texts.take(text, steps))

    def finish(self, text: str) -> Iterable[tuple[str, Score]]:
        return map(self._scored, self._texts.finish(text))

    def _scored(self, piece: Piece[_Step]) -> tuple[str, Score]:
        if not piece.steps:
            return piece.text, Score()
        logprob = sum(next(iter(step.values())).logprob for step in piece.steps)
        if len(piece.steps) > 1:
            return piece.text, Score(logprob)
        (step,) = piece.steps
        return piece.text, Score(logprob, next(iter(step)), _alternatives(step, self._wanted))


def _read(outputs: Outputs) -> list[_Step]:
    tensor = outputs.get(LOGPROBS)
    if tensor is None:
        return []
    try:
        # Not by msgspec: Python's own JSON, which the backend writes, has a minus infinity for what is impossible.
        said = msgspec.convert(json.loads(first_text(tensor.data) or b"null"), _Steps, str_keys=True)
    except (ValueError, msgspec.ValidationError) as exc:
        raise ProtocolViolation(f"output {LOGPROBS!r} is not what vLLM's backend sends: {exc}") from exc
    return [step for step in said or () if step]


def _alternatives(step: _Step, wanted: int) -> tuple[Alternative, ...]:
    # The backend sends one more than was asked for when the chosen token is not among the likeliest.
    likeliest = sorted(step.items(), key=lambda item: -item[1].logprob)[:wanted]
    return tuple(
        Alternative(entry.decoded_token, entry.logprob, token_id)
        for token_id, entry in likeliest
        if entry.decoded_token is not None and isfinite(entry.logprob)
    )
