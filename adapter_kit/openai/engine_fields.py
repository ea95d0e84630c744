"""Fields of vLLM's that only an engine can honour, and the form that each must have. No I/O.

Engines believe what they are given: a number where a flag is meant would be obeyed in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from adapter_api import InvalidRequest
from adapter_api.bounds import MAX_TOKEN_ID


class Form(NamedTuple):
    """What a value must be, in words, and whether it is."""

    words: str
    fits: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return _is_whole(value) and 0 <= value <= MAX_TOKEN_ID


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bias(value: Any) -> bool:
    return isinstance(value, dict) and all(key.isdecimal() and _is_number(bias) for key, bias in value.items())


_FLAG = Form("true or false", lambda value: isinstance(value, bool))
_NUMBER = Form("a number", _is_number)
_WHOLE = Form("a whole number", _is_whole)
_BUDGET = Form("a whole number from 0 on, or -1 for no limit", lambda value: _is_whole(value) and value >= -1)
_IDS = Form("a list of token ids", lambda value: isinstance(value, list) and all(map(_is_id, value)))
_WORDS = Form("a list of texts", lambda value: isinstance(value, list) and all(isinstance(e, str) for e in value))
_BIAS = Form("an object of token ids and numbers", _is_bias)
_SALT = Form(
    "a text of 1 to 128 characters without '@', '/', a backslash and NUL",
    lambda value: isinstance(value, str) and 0 < len(value) <= 128 and not set(value) & set("@/\\\0"),
)
_OBJECT = Form("an object", lambda value: isinstance(value, dict))
_SIDE = Form("'left' or 'right'", lambda value: value in ("left", "right"))

FORMS: Mapping[str, Form] = {
    "ignore_eos": _FLAG, "skip_special_tokens": _FLAG, "include_stop_str_in_output": _FLAG,
    "add_special_tokens": _FLAG, "spaces_between_special_tokens": _FLAG, "watermarking": _FLAG, "cache_salt": _SALT,
    "min_p": _NUMBER, "length_penalty": _NUMBER, "truncate_prompt_tokens": _WHOLE, "thinking_token_budget": _BUDGET,
    "logit_bias": _BIAS, "stop_token_ids": _IDS, "allowed_token_ids": _IDS, "bad_words": _WORDS,
    "vllm_xargs": _OBJECT, "mm_processor_kwargs": _OBJECT, "kv_transfer_params": _OBJECT,
    "ec_transfer_params": _OBJECT, "media_io_kwargs": _OBJECT, "repetition_detection": _OBJECT,
    "truncation_side": _SIDE,
}  # fmt: skip


def require_form(name: str, value: Any) -> None:
    """Raise `InvalidRequest` for a value of one of these fields that no engine can mean."""
    form = FORMS[name]
    if not form.fits(value):
        raise InvalidRequest(f"{name!r} must be {form.words}")
