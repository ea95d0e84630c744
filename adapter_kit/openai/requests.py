"""The fields of chats and completions, as the parts of a task. No I/O.

A face calls `common_of` with all fields that it takes, then `chat_of` or `completion_of`, and adds what is its own:
the model, the trace, fields of its own making. Fields that nobody knows are taken and ignored, as OpenAI-compatible
servers do; all of these functions add their names to the list that they are given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from adapter_api import InvalidRequest, Unsupported
from adapter_api.bounds import MAX_PROMPT_TOKENS, MAX_TOKEN_ID
from adapter_kit.openai.engine_fields import FORMS, require_form
from adapter_kit.openai.formats import GUIDED, constrain, is_empty, response_format_of
from adapter_kit.openai.messages import chosen_of, list_of, message_of, tool_of

SAME = (
    "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "min_tokens", "stop",
)  # fmt: skip
"""Fields that mean the same in a task."""
CHAT = frozenset({
    "messages", "max_completion_tokens", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
    "chat_template_kwargs", "reasoning_effort", "documents", "continue_final_message", "add_generation_prompt",
})  # fmt: skip
"""Fields that a chat completion has beside those, `max_tokens` and those about streaming."""
COMPLETION = frozenset({"prompt", "logprobs", "response_format"})
"""Fields that a completion has beside those."""
_IGNORED = frozenset({
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls", "request_id", "verbosity", "stream_interval", "prediction",
    # What vLLM's server heeds at other routes, or where it gives what is refused here.
    "return_mm_kwargs", "return_token_offsets", "mm_payload", "routed_experts_prompt_start",
})  # fmt: skip
"""Said about the caller, or about how something is done, and not about the answer."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "modalities": (["text"],), "function_call": ("auto", "none"), "min_p": (0, 0.0),
    "length_penalty": (1, 1.0), "skip_special_tokens": (True,), "detokenize": (True,), "include_reasoning": (True,),
    "thinking_token_budget": (-1,), "spaces_between_special_tokens": (True,),
}  # fmt: skip
"""Fields that ask for nothing with these values, beside those that `is_empty` says of every field."""
_REFUSED = frozenset({
    # Of this API's three kinds of request: one kind's is not for another, where it would be missed.
    "messages", "prompt", "input", "max_completion_tokens", "max_output_tokens", "response_format", "tools",
    "tool_choice", "functions", "function_call", "documents", "logprobs", "top_logprobs", "n", "best_of", "echo",
    "suffix", "modalities", "audio", "web_search_options", "instructions", "previous_response_id", "conversation",
    "background", "truncation", "include", "text", "context_management", "history",
    # Of vLLM's server.
    "use_beam_search", "prompt_embeds", "prompt_logprobs", "logprob_token_ids", "return_tokens_as_token_ids",
    "return_token_ids", "return_prompt_text", "previous_input_messages", "previous_response",
    "enable_response_messages",
    # Of a task.
    "model", "model_version", "prompt_images", "prompt_token_ids", "running_usage", "job_id", "session_id", "priority",
    "parameters", "timeout_s",
})  # fmt: skip
"""Fields that are known, and that change the answer: whoever cannot honour them says so."""
_OF_TEMPLATES = frozenset({
    "chat_template", "chat_template_kwargs", "reasoning_effort", "include_reasoning", "add_generation_prompt",
    "continue_final_message",
})  # fmt: skip
"""Fields that say how a conversation becomes a prompt: known there, and without effect on a prompt."""
_ASK_WHEN_EMPTY = frozenset({
    "skip_special_tokens", "spaces_between_special_tokens", "detokenize", "include_reasoning", "add_special_tokens",
    # An empty one parts nobody's cache from another's: whoever sends it has lost theirs.
    "cache_salt",
})  # fmt: skip
"""Fields that ask for something when they are false, or that cannot be empty."""
_ANY_VOCABULARY = 2**31 - 1
_ANYWHERE = frozenset({*SAME, *_IGNORED, *GUIDED, "structured_outputs", "max_tokens", "stream", "stream_options"})
_SAME = frozenset(SAME)
_OF_SOME_CHATS = frozenset({
    "logprobs", "top_logprobs", "response_format", "structured_outputs", *GUIDED, "tool_choice", "tools",
    "continue_final_message", "add_generation_prompt", "chat_template_kwargs", "reasoning_effort", "documents",
})  # fmt: skip
"""Fields of a chat that most have none of: they are looked for together first."""
Prompt = str | list[int]
"""A text, or token ids."""


def common_of(
    fields: Mapping[str, Any], taken: Collection[str], ignored: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parts of a task that need no change, and by its name what only an engine can honour, or refuse.

    Args:
        fields: Of a request.
        taken: Fields that the caller reads itself, `CHAT` or `COMPLETION` among them.
        ignored: Gets the names of those that nobody knows.

    Raises:
        Unsupported: A field asks for something that nobody here can do; it is named.
    """
    engines: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _ANYWHERE or name in taken or _asks_for_nothing(name, value):
            continue
        if name == "add_special_tokens" and value is ("prompt" in taken):
            continue  # what is done anyway: a chat template writes its own, and a prompt has none
        if name in FORMS:
            require_form(name, value)
            engines[name] = value
        elif name in _REFUSED or (name in _OF_TEMPLATES and "prompt" not in taken):
            raise Unsupported(f"{name!r} is not supported here; leave it out")
        else:
            ignored.append(name)
    if _SAME.isdisjoint(fields):
        return {}, engines
    same = {name: fields[name] for name in SAME if fields.get(name) is not None}
    top_k, seed = same.get("top_k"), same.get("seed")
    if _is_same(top_k, -1) or (isinstance(top_k, int) and top_k > _ANY_VOCABULARY):
        same["top_k"] = 0  # vLLM's word for all tokens
    if _is_same(seed, -1):
        del same["seed"]  # and for none
    elif isinstance(seed, int) and -(2**63) <= seed < 0:
        same["seed"] = seed % 2**63  # a seed like another, and engines do not all take negative ones
    return same, engines


def parameters_of(engines: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return what only an engine can honour as parameters of a task, whose values are scalars: others go as JSON."""
    return {f"{namespace}.{name}": _scalar(value) for name, value in engines.items()}


def _scalar(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value


def prompts_of(fields: Mapping[str, Any]) -> Sequence[Prompt]:
    """Return the prompts of a completion, in order, a list of token ids being one; raises `InvalidRequest`."""
    given = fields.get("prompt")
    prompts: list[Any] = given if isinstance(given, list) and not _are_ids(given) else [given]
    if prompts and all(isinstance(prompt, str) for prompt in prompts):
        return prompts
    if prompts and all(map(_are_ids, prompts)):
        for prompt in prompts:
            _require_ids(prompt)
        return prompts
    raise InvalidRequest("'prompt' must be a text or token ids, or a list of texts, or of lists of token ids")


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {int}


def _require_ids(ids: list[int]) -> None:
    """Raise `InvalidRequest` by the name that the client knows, and a task does not."""
    if len(ids) > MAX_PROMPT_TOKENS:
        raise InvalidRequest(f"'prompt' has {len(ids)} token ids; there may be {MAX_PROMPT_TOKENS}")
    if min(ids) < 0 or max(ids) > MAX_TOKEN_ID:
        raise InvalidRequest(f"'prompt' has a token id that is none: they go from 0 to {MAX_TOKEN_ID}")


def part_of_prompt(prompt: Prompt) -> dict[str, Any]:
    """Return the part of a task that a prompt is."""
    return {"prompt": prompt} if isinstance(prompt, str) else {"prompt_token_ids": prompt}


def chat_of(fields: Mapping[str, Any], ignored: list[str]) -> dict[str, Any]:
    """Return the parts of a task that a chat completion has; raises `InvalidRequest` or `Unsupported`."""
    task: dict[str, Any] = {"messages": [message_of(message, ignored) for message in list_of(fields, "messages")]}
    _set(task, "max_tokens", most_tokens(fields, "max_completion_tokens"))
    if _OF_SOME_CHATS.isdisjoint(fields):
        return task
    if flag(fields, "logprobs"):
        top = fields.get("top_logprobs")
        if isinstance(top, int) and top < 0:  # a task has another name for it
            raise InvalidRequest("'top_logprobs' must be a whole number from 0 on")
        task["logprobs"] = 0 if top is None else top
    elif fields.get("top_logprobs"):
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true")
    _constrain(task, fields)
    if fields.get("tool_choice") not in (None, "auto", "none") and not fields.get("tools"):
        raise InvalidRequest("'tool_choice' chooses among 'tools', and there are none")
    if fields.get("tools"):
        task["tools"], choice = chosen_of([tool_of(t) for t in list_of(fields, "tools")], fields.get("tool_choice"))
        _set(task, "tool_choice", choice)
    for name in ("continue_final_message", "add_generation_prompt"):
        if fields.get(name) is not None:
            task[name] = flag(fields, name)
    _set(task, "chat_template_kwargs", fields.get("chat_template_kwargs"))
    variables = task.get("chat_template_kwargs", {})
    named = effort_of(fields.get("reasoning_effort"), "reasoning_effort")
    if fields.get("documents"):
        named["documents"] = fields["documents"]
    if named and isinstance(variables, dict):
        task["chat_template_kwargs"] = {**named, **variables}
    return task


def effort_of(effort: Any, name: str) -> dict[str, Any]:
    """Return the variables of a chat template that say how much a model is to think, none where nobody says it.

    Templates that know no efforts have a switch, which `none` turns off, as vLLM's server does it.

    Args:
        effort: What the field `name` says.
        name: As the client calls it.

    Raises:
        InvalidRequest: It is no word.
    """
    if not effort:
        return {}
    if not isinstance(effort, str):
        raise InvalidRequest(f"{name!r} must be a word, such as none, low, medium or high")
    return {"reasoning_effort": effort, **({"enable_thinking": False} if effort == "none" else {})}


def completion_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a task that a completion has; raises `InvalidRequest` or `Unsupported`."""
    prompts = prompts_of(fields)
    if len(prompts) > 1:
        raise Unsupported("'prompt' must be one text: several are not supported here")
    task: dict[str, Any] = part_of_prompt(prompts[0])
    _set(task, "max_tokens", fields.get("max_tokens"))
    _set(task, "logprobs", fields.get("logprobs"))
    _constrain(task, fields)
    return task


def _constrain(task: dict[str, Any], fields: Mapping[str, Any]) -> None:
    if fields.get("response_format"):
        _set(task, "response_format", response_format_of(fields["response_format"]))
    constrain(task, fields)


def wants_usage(fields: Mapping[str, Any], ignored: list[str]) -> bool:
    """Return whether a stream is to tell its usage; raises `InvalidRequest`."""
    options = fields.get("stream_options")
    if not options:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object")
    for name, value in options.items():
        if name not in ("include_usage", "continuous_usage_stats", "include_obfuscation") and value:
            ignored.append(f"stream_options.{name}")
    include = options.get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise InvalidRequest("'stream_options.include_usage' must be true or false")
    return bool(include)


def wants_running_usage(fields: Mapping[str, Any]) -> bool:
    """Return whether each chunk of a stream is to tell the usage so far; as at vLLM, beside `include_usage` only."""
    return wants_usage(fields, []) and flag(fields.get("stream_options") or {}, "continuous_usage_stats")


def most_tokens(fields: Mapping[str, Any], newer: str) -> Any:
    """Return how many tokens an answer may have: what the newer field says, else `max_tokens`, which a task looks at.

    Raises:
        InvalidRequest: The newer one, which a task knows by another name, is no such number.
    """
    most = fields.get(newer)
    if most is None:
        return fields.get("max_tokens")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidRequest(f"{newer!r} must be a whole number from 1 on")
    return most


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """Return a field that is true or false, and false when absent."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name!r} must be true or false")
    return bool(value)


def _asks_for_nothing(name: str, value: Any) -> bool:
    if value is None or any(_is_same(value, each) for each in _NEUTRAL.get(name, ())):
        return True
    if name == "logit_bias" and isinstance(value, dict):
        return not any(value.values())
    return is_empty(value) and name not in _ASK_WHEN_EMPTY


def _is_same(value: Any, other: Any) -> bool:
    """`true` is no 1."""
    return type(value) is type(other) and bool(value == other)


def _set(task: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        task[name] = value
