"""Values in another type's clothes, as OpenAI-compatible servers take them: a number in quotes, 5.0 for 5. No I/O.

Forms and shells send everything as text, and vLLM's server reads it. What has one meaning only is taken for that; the
rest is left as it is, for whoever looks at the field to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}(\.0{0,20})?")
_MOST_EXACT = 2.0**53
_FLAGS = {
    "true": True, "t": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "f": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value


def _whole(value: Any) -> Any:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if isinstance(value, float) and value.is_integer() and abs(value) < _MOST_EXACT:
        return int(value)
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower(), value)
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else value


def _whole_list(value: Any) -> Any:
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _flags_of_stream(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    flags = {name: _flag(value[name]) for name in ("include_usage", "continuous_usage_stats") if name in value}
    return value if all(flags[name] is value[name] for name in flags) else {**value, **flags}


_MEANT: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys((
        "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
        "length_penalty", "timeout_s",
    ), _number),
    **dict.fromkeys((
        "top_k", "seed", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens",
        "top_logprobs", "prompt_logprobs", "truncate_prompt_tokens", "thinking_token_budget", "dimensions",
    ), _whole),
    **dict.fromkeys((
        "stream", "echo", "store", "history", "ignore_eos", "skip_special_tokens", "include_stop_str_in_output",
        "include_reasoning", "add_special_tokens", "use_beam_search", "spaces_between_special_tokens",
        "return_token_ids", "parallel_tool_calls", "continue_final_message", "add_generation_prompt",
    ), _flag),
    **dict.fromkeys(("stop_token_ids", "allowed_token_ids"), _whole_list),
    "stream_options": _flags_of_stream,
}  # fmt: skip


def as_meant(fields: dict[str, Any], *, logprobs: Callable[[Any], Any] = _flag) -> dict[str, Any]:
    """Return the fields of a request with each value in the type that it is meant in.

    Args:
        fields: As they came; they are not changed.
        logprobs: `whole` for a completion, where it is a number; chats say `true`.
    """
    found = fields
    for name, value in fields.items():
        meant = logprobs if name == "logprobs" else _MEANT.get(name)
        if meant is None or value is None:
            continue
        read = meant(value)
        if read is not value:
            if found is fields:
                found = dict(fields)
            found[name] = read
    return found


def whole(value: Any) -> Any:
    """Return how many `logprobs` a completion asks for; `false` asks for none, and `true` for the chosen token and one
    more, as it does at vLLM's server."""
    if isinstance(value, bool):
        return 1 if value else None
    return _whole(value)
