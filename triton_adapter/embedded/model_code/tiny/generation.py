"""One sequence being written: sample a token, hold back what may become a stop string, know when to end."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .constraint import constrained_text
from .language import EOS, UNKNOWN, Distribution, LanguageModel, tokenize
from .sampling import SamplingParams


@dataclass(frozen=True)
class Logprob:
    token_id: int
    text: str
    logprob: float
    rank: int


@dataclass(frozen=True)
class Step:
    """What one token brought: text that may be shown (possibly none), and the token's probability.

    `alternatives` begins with the chosen token and is followed by the `logprobs` likeliest ones.
    """

    text: str
    chosen: Logprob
    alternatives: tuple[Logprob, ...]


class Generation:
    """Write one continuation of `prompt`, or `said` where that is given. Call `step` until `finish_reason` is set."""

    def __init__(
        self,
        model: LanguageModel,
        prompt: list[int],
        params: SamplingParams,
        *,
        room: int,
        index: int = 0,
        said: str | None = None,
    ) -> None:
        self.finish_reason: str | None = None
        self.token_count = 0
        self.cumulative_logprob = 0.0
        self._model = model
        self._context = list(prompt)
        self._params = params
        self._limit = min(params.max_tokens, room)
        self._random = random.Random() if params.seed is None else random.Random(params.seed * 1000003 + index)
        self._written: Counter[int] = Counter()
        self._prompt_ids = {token_id for token_id in prompt if token_id != UNKNOWN}
        self._bad_words = [model.encode(form) for word in params.bad_words for form in (word, " " + word) if word]
        self._held_back = ""
        self._longest_stop = max(map(len, params.stop), default=0)
        constraint = params.structured_outputs
        forced = constrained_text(constraint, self._random) if constraint else said
        self._forced = None if forced is None else tokenize(forced)
        """Tokens that there is no choice about, last first."""
        if self._forced is not None:
            self._forced.reverse()

    def step(self) -> Step:
        """Add one token. The end-of-text token has no text and is counted, as engines do."""
        if self._forced is not None:
            return self._forced_step(self._forced)
        raw = self._model.after(self._context)
        token_id = self._choose(self._adjusted(raw))
        chosen = self._logprob(raw, token_id)
        self.cumulative_logprob += chosen.logprob
        self.token_count += 1
        self._context.append(token_id)
        self._written[token_id] += 1
        text = self._show(self._model.decode(token_id), ended=token_id == EOS)
        return Step(text, chosen, (chosen, *self._likeliest(raw, token_id)))

    def _forced_step(self, forced: list[str]) -> Step:
        text = forced.pop() if forced else ""
        (token_id,) = self._model.encode(text) or [EOS]
        self.token_count += 1
        chosen = Logprob(token_id, text, 0.0, 1)
        return Step(self._show(text, ended=not forced), chosen, (chosen,))

    def _show(self, text: str, *, ended: bool) -> str:
        self._held_back += text
        if self._longest_stop and self.token_count > self._params.min_tokens:
            found = [(at, stop) for stop in self._params.stop if (at := self._held_back.find(stop)) >= 0]
            if found:
                at, stop = min(found)
                self.finish_reason = "stop"
                return self._held_back[: at + (len(stop) if self._params.include_stop_str_in_output else 0)]
        if ended and (self._forced is not None or not self._params.ignore_eos):
            self.finish_reason = "stop"
        elif self.token_count >= self._limit:
            self.finish_reason = "length"
        keep = 0 if self.finish_reason or self._params.include_stop_str_in_output else max(self._longest_stop - 1, 0)
        cut = len(self._held_back) - keep
        if cut <= 0:
            return ""
        shown, self._held_back = self._held_back[:cut], self._held_back[cut:]
        return shown

    def _adjusted(self, raw: Distribution) -> Distribution:
        params = self._params
        scores = np.log(raw)
        if self._written and (params.presence_penalty or params.frequency_penalty):
            for token_id, count in self._written.items():
                scores[token_id] -= params.presence_penalty + params.frequency_penalty * count
        if params.repetition_penalty != 1.0:
            seen = list(self._prompt_ids | set(self._written))
            # The scores are logarithms of probabilities, hence negative: a penalty multiplies them.
            scores[seen] *= params.repetition_penalty
        if params.ignore_eos or self.token_count < params.min_tokens:
            scores[EOS] = -np.inf
        for word in self._bad_words:
            if word[-1] != UNKNOWN and self._context[len(self._context) - len(word) + 1 :] == word[:-1]:
                scores[word[-1]] = -np.inf
        return scores

    def _choose(self, scores: Distribution) -> int:
        params = self._params
        if params.temperature == 0 or params.top_k == 1:
            return int(scores.argmax())
        weights = np.exp((scores - scores.max()) / params.temperature)
        if params.top_k <= 0 and params.top_p >= 1 and params.min_p == 0:
            return self._draw(np.arange(weights.size), weights)
        order = np.argsort(-weights, kind="stable")
        if params.top_k > 0:
            order = order[: params.top_k]
        order = order[weights[order] >= params.min_p * weights[order[0]]]
        running = np.cumsum(weights[order])
        order = order[: int(np.searchsorted(running, params.top_p * running[-1])) + 1]
        return self._draw(order, weights[order])

    def _draw(self, token_ids: NDArray[np.intp], weights: Distribution) -> int:
        running = np.cumsum(weights)
        at = int(np.searchsorted(running, self._random.random() * running[-1], side="right"))
        return int(token_ids[min(at, len(token_ids) - 1)])

    def _logprob(self, raw: Distribution, token_id: int) -> Logprob:
        probability = float(raw[token_id])
        rank = 1 + int((raw > probability).sum())
        return Logprob(token_id, self._model.decode(token_id), math.log(probability), rank)

    def _likeliest(self, raw: Distribution, token_id: int) -> list[Logprob]:
        if not self._params.logprobs:
            return []
        top = np.argsort(-raw, kind="stable")[: self._params.logprobs]
        return [self._logprob(raw, int(other)) for other in top if other != token_id]
