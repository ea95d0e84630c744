"""How a generation chooses its tokens and when it ends; the names are those of vLLM's SamplingParams."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# Parameters of vLLM that say nothing to a model of this kind, but are no mistake either.
_WITHOUT_EFFECT = {"skip_special_tokens", "spaces_between_special_tokens", "detokenize", "prompt_logprobs", "lora_name"}


@dataclass(frozen=True)
class SamplingParams:
    """Checked when made: `ValueError` names what is wrong."""

    n: int = 1
    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    bad_words: tuple[str, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    structured_outputs: Mapping[str, Any] | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.n >= 1, "n must be at least 1")
        _require(self.max_tokens >= 1, "max_tokens must be at least 1")
        _require(0 <= self.min_tokens <= self.max_tokens, "min_tokens must be between 0 and max_tokens")
        _require(self.temperature >= 0, "temperature must not be negative")
        _require(0 < self.top_p <= 1, "top_p must be in (0, 1]")
        _require(self.top_k >= -1, "top_k must be -1 or 0 (all), or at least 1")
        _require(0 <= self.min_p <= 1, "min_p must be in [0, 1]")
        _require(-2 <= self.presence_penalty <= 2, "presence_penalty must be in [-2, 2]")
        _require(-2 <= self.frequency_penalty <= 2, "frequency_penalty must be in [-2, 2]")
        _require(self.repetition_penalty > 0, "repetition_penalty must be greater than 0")
        _require(all(self.stop), "stop must not contain an empty string")
        _require(self.logprobs is None or self.logprobs >= 0, "logprobs must not be negative")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SamplingParams:
        """Return the parameters in `values`, whose numbers may be strings as request parameters are.

        Raises:
            ValueError: A name is unknown or a value is out of range.
        """
        known = {f.name: _CASTS[f.name] for f in fields(cls)}
        given = {name: value for name, value in values.items() if value is not None and name not in _WITHOUT_EFFECT}
        unknown = sorted(set(given) - set(known))
        _require(not unknown, f"unexpected keyword argument {', '.join(map(repr, unknown))}")
        try:
            return cls(**{name: known[name](value) for name, value in given.items()})
        except TypeError as error:
            raise ValueError(str(error)) from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value)


_CASTS: Mapping[str, Any] = {
    "n": int,
    "max_tokens": int,
    "min_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "seed": int,
    "stop": _strings,
    "include_stop_str_in_output": bool,
    "bad_words": _strings,
    "ignore_eos": bool,
    "presence_penalty": float,
    "frequency_penalty": float,
    "repetition_penalty": float,
    "logprobs": int,
    "structured_outputs": json.loads,
    "extra_args": dict,
}
