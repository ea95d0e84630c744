"""Write the table of fields in docs/openai.md from what the host does with each; `--check` says whether it is fresh."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from table_page import ROOT, with_table, write_or_check

from adapter_api import InvalidRequest, Unsupported
from orchestrator.http.openai_requests import Asked, parse_chat, parse_completion

PAGE = ROOT / "docs" / "openai.md"
_SCHEMA = {"type": "object"}
_TOOLS = [{"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}]
_USER = [{"role": "user", "content": "Hi"}]


class Field(NamedTuple):
    """A field, a value with which it asks for something, and what vLLM 0.32's server does with it."""

    name: str
    probe: Any
    vllm: str = "yes"
    beside: Mapping[str, Any] = {}
    """What it makes sense with only."""


FIELDS = (
    Field("messages", [*_USER, {"role": "assistant", "content": "Yes?"}, *_USER]),
    Field("prompt", ["a", "b"]),
    Field("prompt, as token ids", [1, 2]),
    Field("prompt_embeds", "AA=="),
    Field("suffix", "the end", "refused"),
    Field("echo", True, "yes; in chats it means another thing"),
    Field("echo, with logprobs", True, "yes", {"logprobs": 1}),
    Field("n", 2),
    Field("best_of", 3, "no such field"),
    Field("max_tokens", 5),
    Field("max_completion_tokens", 5),
    Field("min_tokens", 1),
    Field("temperature", 0.5),
    Field("top_p", 0.5),
    Field("top_k", 5),
    Field("min_p", 0.1),
    Field("seed", 5),
    Field("stop", ["x"]),
    Field("stop_token_ids", [5]),
    Field("include_stop_str_in_output", True),
    Field("ignore_eos", True),
    Field("presence_penalty", 0.5),
    Field("frequency_penalty", 0.5),
    Field("repetition_penalty", 1.5),
    Field("length_penalty", 2.0),
    Field("use_beam_search", True),
    Field("logit_bias", {"5": 1.0}),
    Field("bad_words", ["x"]),
    Field("allowed_token_ids", [5]),
    Field("logprobs", True),
    Field("logprobs, as a number", 2),
    Field("top_logprobs", 2, beside={"logprobs": True}),
    Field("prompt_logprobs", 1),
    Field("logprob_token_ids", [5]),
    Field("return_tokens_as_token_ids", True),
    Field("return_token_ids", True),
    Field("return_prompt_text", True),
    Field("response_format", {"type": "json_object"}),
    Field("structured_outputs", {"regex": "a+"}),
    Field("guided_json", _SCHEMA, "no longer: structured_outputs"),
    Field("tools", _TOOLS),
    Field("tool_choice", "required", beside={"tools": _TOOLS}),
    Field("parallel_tool_calls", False),
    Field("reasoning_effort", "low"),
    Field("include_reasoning", False),
    Field("thinking_token_budget", 100),
    Field("chat_template", "{{ messages }}", "only with --trust-request-chat-template"),
    Field("chat_template_kwargs", {"a": 1}),
    Field("add_generation_prompt, false", False),
    Field("continue_final_message", True),
    Field("add_special_tokens", True, "yes; false by default in chats, true in completions"),
    Field("add_special_tokens, false", False),
    Field("documents", [{"title": "a", "text": "b"}]),
    Field("skip_special_tokens, false", False),
    Field("spaces_between_special_tokens, false", False),
    Field("truncate_prompt_tokens", 100),
    Field("truncation_side", "left"),
    Field("mm_processor_kwargs", {"a": 1}),
    Field("media_io_kwargs", {"image": {"a": 1}}),
    Field("mm_payload", "none", "ignored"),
    Field("return_mm_kwargs", False, "ignored"),
    Field("return_token_offsets", True, "ignored"),
    Field("watermarking", True),
    Field("routed_experts_prompt_start", 1),
    Field("ec_transfer_params", {"a": 1}),
    Field("vllm_xargs", {"a": 1}),
    Field("kv_transfer_params", {"a": 1}),
    Field("repetition_detection", {"a": 1}),
    Field("stream", True),
    Field("stream_options", {"include_usage": True}, beside={"stream": True}),
    Field(
        "stream_options.continuous_usage_stats",
        {"include_usage": True, "continuous_usage_stats": True},
        "yes, beside include_usage",
        {"stream": True, "stream_options": {"include_usage": True}},
    ),
    Field("stream_interval", 5),
    Field("priority", 5, "yes, where the server schedules by it"),
    Field("request_id", "r"),
    Field("session_id", "s"),
    Field("cache_salt", "s"),
    Field("user", "u", "ignored"),
    Field("metadata", {"a": "b"}, "ignored"),
    Field("store", True, "ignored"),
    Field("service_tier", "flex", "ignored"),
    Field("safety_identifier", "u", "ignored"),
    Field("prompt_cache_key", "k", "ignored"),
    Field("verbosity", "low", "ignored"),
    Field("modalities", ["text", "audio"], "ignored"),
    Field("function_call", {"name": "f"}, "ignored"),
    Field("web_search_options", {"a": 1}, "ignored"),
    Field("any other", 1, "ignored"),
)


def outcome(parse: Callable[[dict[str, Any], dict[str, str]], Asked], base: dict[str, Any], field: Field) -> str:
    """Return what the host does with a field: in a word or two, as the table says it."""
    name = field.name.partition(",")[0].partition(".")[0]
    try:
        plain = parse({**base, **field.beside}, {})
        asked = parse({**base, **field.beside, name: field.probe}, {})
    except (Unsupported, InvalidRequest):
        return "refused"
    if len(asked.tasks) != len(plain.tasks) or _flags(asked) != _flags(plain):
        return "done here"
    before, after = plain.task, asked.task.model_copy(update={"job_id": plain.task.job_id})
    if sent := sorted(after.parameters.keys() - before.parameters.keys()):
        return f"to the engine: `{sent[0]}`"
    if before == after:
        return "ignored"
    needs = ", ".join(f"`{capability.value}`" for capability in sorted(after.needs - before.needs))
    return f"passed on; needs {needs}" if needs else "passed on"


def _flags(asked: Asked) -> tuple[bool, ...]:
    return asked.stream, asked.include_usage, asked.history, asked.echo, asked.reasoning, asked.one_call


def table() -> str:
    """Return the table."""
    lines = ["| field | chat completions | completions | vLLM 0.32 |", "|---|---|---|---|"]
    for field in FIELDS:
        chat = outcome(parse_chat, {"model": "m", "messages": _USER}, field)
        text = outcome(parse_completion, {"model": "m", "prompt": "Hi"}, field)
        lines.append(f"| `{field.name}` | {chat} | {text} | {field.vllm} |")
    return "\n".join([*lines, ""])


def fresh(page: str) -> str:
    """Return the page with the table as it should be."""
    return with_table(page, table())


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, fresh, sys.argv[1:]))
