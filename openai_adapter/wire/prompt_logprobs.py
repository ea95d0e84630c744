"""How likely a prompt is, as vLLM's server and its kin tell it: one object for each token, under the token's id."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from adapter_api import Alternative, PromptToken, ProtocolViolation
from openai_adapter.wire.chunks import Logprobs

_LEAST = -9999.0
"""For a probability of nothing, which JSON cannot say; vLLM says this, too."""


class _Place(msgspec.Struct, gc=False):
    """One of the tokens that were likely in a place."""

    logprob: float | None = None
    rank: int | None = None
    decoded_token: str | None = None


_Places = list[dict[int, _Place] | None]


def prompt_tokens(told: Any, ids: tuple[int, ...], echoed: list[str], most: int) -> tuple[PromptToken, ...]:
    """Return the tokens of a prompt.

    Args:
        told: What the engine says: null for the first, for each other one an object of what was likely in its place,
            the prompt's own token before the others.
        ids: Those of the prompt, none where the engine does not tell them.
        echoed: The texts of its tokens, none where the engine does not tell them.
        most: How many of the likeliest are told in each place; -1: all that the engine tells.

    Raises:
        ProtocolViolation: It is something else.
    """
    try:
        places = msgspec.convert(told, _Places, str_keys=True)
    except (msgspec.MsgspecError, RecursionError):
        raise ProtocolViolation("the engine sent prompt_logprobs that are none") from None
    if len(ids) != len(places):
        ids = ()
    tokens = []
    for at, place in enumerate(places):
        text = echoed[at] if at < len(echoed) else None
        if not place:
            tokens.append(PromptToken(text or "", token_id=ids[at] if ids else None))
            continue
        # Which of them is the prompt's own only their order says where the engine tells no ids.
        id = ids[at] if ids and ids[at] in place else next(iter(place))
        own = place[id]
        likeliest = sorted(place.items(), key=_order)[: None if most < 0 else most]
        tokens.append(
            PromptToken(
                own.decoded_token or "" if text is None else text, _number(own.logprob), id, own.rank,
                tuple(
                    Alternative(each.decoded_token or "", _number(each.logprob), other, each.rank)
                    for other, each in likeliest
                ),
            )
        )  # fmt: skip
    return tuple(tokens)


def answer_alone(text: str, scores: Logprobs | None, count: int, prompt: str | None) -> tuple[str, Logprobs | None]:
    """Return an answer and its log probabilities without the prompt before them, of an engine that was asked to repeat
    it for the texts of its tokens; some engines repeat the tokens only.

    Args:
        text: Of the choice.
        scores: Of prompt and answer.
        count: Of the prompt's tokens.
        prompt: As it was sent, where it was a text.
    """
    if scores is None or scores.tokens is None or len(scores.tokens) < count:
        return text, scores
    before, after = "".join(scores.tokens[:count]), "".join(scores.tokens[count:])
    if not after.startswith(text):
        repeated = next((each for each in (prompt, before) if each and text.startswith(each)), "")
        text = text[len(repeated) :]
    return text, Logprobs(
        tokens=scores.tokens[count:],
        token_logprobs=(scores.token_logprobs or [])[count:],
        top_logprobs=(scores.top_logprobs or [])[count:],
    )


def _order(item: tuple[int, _Place]) -> float:
    return -_number(item[1].logprob)


def _number(logprob: float | None) -> float:
    return logprob if logprob is not None and isfinite(logprob) else _LEAST
