"""Requests that vLLM's server and a host in front of it get alike, and what was decided where their answers differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["chat", "text"]
PATHS: Mapping[Kind, str] = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
USER = [{"role": "user", "content": "Hi there"}]
BASE: Mapping[Kind, dict[str, Any]] = {
    "chat": {"model": "tiny", "messages": USER, "max_tokens": 8, "temperature": 0},
    "text": {"model": "tiny", "prompt": "Hi there", "max_tokens": 8, "temperature": 0},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {"a": {}}}},
}
STRICT = {**TOOL, "function": {**TOOL["function"], "strict": True}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
ABSENT = object()

# What was decided: each is a reason that docs/openai.md gives.
GIVES_MORE = "more is taken here"
NULL = "null asks for nothing, and SDKs send it"
STATUS = "a refusal has its status though streamed"
REFUSED = "refused by its name, since it would be missed"
OTHER_KIND = "a field of the other kind of request, which would be missed"
NO_NUMBER = "true is no number"
CONSTRAINED = "guided_... still constrains the answer, where vLLM drops it"
OWN_WORD = "finish reasons are OpenAI's words"
UNSHOWN = "tools that are not to be called are shown to models only that are known to take tools"
PLAIN = "what is given to no purpose is not looked at"


class Case(NamedTuple):
    """A request, and why its answer may differ from vLLM's; `None`: it must not."""

    kind: Kind
    fields: dict[str, Any]
    decided: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        merged = {**BASE[self.kind], **self.fields}
        return {name: value for name, value in merged.items() if value is not ABSENT}

    @property
    def name(self) -> str:
        shown = {name: "absent" if value is ABSENT else value for name, value in self.fields.items()}
        return f"{self.kind} {json.dumps(shown)[:110]}"


def _each(kinds: str, name: str, *values: Any, decided: str | None = None, **beside: Any) -> Iterator[Case]:
    for value in values:
        for kind in kinds.split():
            yield Case(kind, {name: value, **beside}, decided)  # type: ignore[arg-type]


BOTH = "chat text"


def _numbers() -> Iterator[Case]:
    for name, good, bad in (
        ("temperature", (0, 0.0, "0"), (-1, 2.1, "x", [])),
        ("top_p", (0.5, 1, "0.5", None), (0, 1.1, "x")),
        ("top_k", (0, -1, 1, 5, 1.0, "5", None, 10**12), (-2, 1.5, "x")),
        ("min_p", (0, 0.5, 1, "0.1", None), (1.5, -0.1, "x")),
        ("seed", (0, 1, -1, -5, 1.0, "5", 2**63 - 1, None), (2**63, 1.5, "x")),
        ("max_tokens", (1, 5.0, "5"), (-1, 1.5, "x", 10**12)),
        ("min_tokens", (0, 2, "2"), (-1, 100, "x")),
        ("presence_penalty", (0, 1, -2, "1", None), (2.1, "x")),
        ("frequency_penalty", (0, 1, -2, "1", None), (2.1, "x")),
        ("repetition_penalty", (1, 1.5, 0.5, "1.5", None), (0, -1, "x")),
        ("length_penalty", (1, 2), ("x",)),
    ):
        yield from _each(BOTH, name, *good, *bad)
    yield from _each(BOTH, "n", 1, 1.0, 0, -1, 1.5, "x")
    yield from _each(BOTH, "n", 2, "2", decided=GIVES_MORE)
    yield from _each("text", "n", None, decided=NULL)
    yield from _each(BOTH, "min_tokens", None, decided=NULL)
    yield from _each(BOTH, "top_p", True, decided=NO_NUMBER)
    yield from _each("chat", "max_completion_tokens", 5, None, "x")
    yield from _each("chat", "max_completion_tokens", -1, decided="a field is called as the client called it")
    yield from _each("text", "max_completion_tokens", 5, decided=OTHER_KIND)
    yield from _each("chat", "max_tokens", 3, max_completion_tokens=5)


def _stops() -> Iterator[Case]:
    yield from _each(BOTH, "stop", "a", ["a", "b"], [], None, 5, [5])
    stops = ["i", "e", "2"]
    for wanted in (True, False):
        yield from _each(BOTH, "stop", stops, max_tokens=40, include_stop_str_in_output=wanted)
        yield from _each(BOTH, "stop", stops, max_tokens=40, include_stop_str_in_output=wanted, stream=True)
    yield from _each(BOTH, "stop", stops, max_tokens=40, min_tokens=20)
    yield from _each(BOTH, "stop_token_ids", [], [66], ["66"], None, "x")
    yield from _each(BOTH, "include_stop_str_in_output", "true", 1, "x")
    yield from _each(BOTH, "ignore_eos", True, False, "true", 1, 123, "x")
    yield from _each(BOTH, "ignore_eos", None, decided=NULL)
    yield from _each(BOTH, "stop_token_ids", [10**6], stream=True, decided=STATUS)


def _scores() -> Iterator[Case]:
    yield from _each("chat", "logprobs", True, False, 0, 1, "x", None)
    for top in (0, 2, None, 21):
        yield from _each("chat", "top_logprobs", top, logprobs=True)
    yield from _each("chat", "top_logprobs", 2, logprobs=True, stream=True)
    yield from _each("chat", "top_logprobs", 2, logprobs=False)
    yield from _each("chat", "top_logprobs", 0)
    yield from _each("text", "logprobs", 0, 1, 5, 20, True, 21, -2, "x", None)
    yield from _each("text", "logprobs", 2, stream=True)
    yield from _each("text", "logprobs", False, decided="false asks for none")
    yield from _each("text", "logprobs", 21, stream=True, decided=STATUS)
    yield from _each("text", "top_logprobs", 2, decided=OTHER_KIND)
    yield from _each(BOTH, "prompt_logprobs", 0, 1, 21, -1, -2)
    yield from _each(BOTH, "prompt_logprobs", 0, 1, stream=True)
    yield from _each(BOTH, "prompt_logprobs", 1, n=2, decided=GIVES_MORE)
    yield from _each("text", "echo", True, False)
    yield from _each("text", "echo", True, stream=True)
    yield from _each("text", "echo", True, logprobs=1)
    yield from _each("text", "echo", True, logprobs=0, max_tokens=0)
    yield from _each("text", "echo", True, logprobs=1, stream=True)
    yield from _each("text", "echo", True, prompt=[66, 67, 68], logprobs=1, max_tokens=1)
    yield from _each("chat", "echo", True, decided=REFUSED)


def _choices_of_tokens() -> Iterator[Case]:
    yield from _each(BOTH, "logit_bias", {}, {"66": 5}, {"66": -100}, {"x": 1}, {"66": "x"}, {"999999": 1}, None)
    yield from _each(BOTH, "logit_bias", [], decided=GIVES_MORE)
    yield from _each(BOTH, "bad_words", [], ["a"], "a", [1])
    yield from _each(BOTH, "allowed_token_ids", [66, 67], ["66"], [10**6], "x", None)
    yield from _each(BOTH, "allowed_token_ids", [], decided=PLAIN)
    yield from _each(BOTH, "use_beam_search", True, decided=REFUSED)
    yield from _each(BOTH, "skip_special_tokens", True, False, "x")
    yield from _each(BOTH, "spaces_between_special_tokens", True, False)
    yield from _each(BOTH, "add_special_tokens", True, False, "x")
    yield from _each(BOTH, "truncate_prompt_tokens", 5, -1, -2, "x", None)
    yield from _each(BOTH, "truncation_side", "left", "right", "x", None, truncate_prompt_tokens=5)


def _formats() -> Iterator[Case]:
    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    yield from _each(
        BOTH, "response_format", {"type": "text"}, {"type": "json_object"}, named, {"type": "x"}, "x", None
    )
    yield from _each(BOTH, "response_format", named, stream=True)
    yield from _each(BOTH, "response_format", {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}})
    ways: dict[str, Any]
    for ways in ({"regex": "ab+"}, {"choice": ["yes", "no"]}, {"json": SCHEMA}, {"json": json.dumps(SCHEMA)}):
        yield from _each(BOTH, "structured_outputs", ways)
    for ways in ({"grammar": 'root ::= "a"'}, {"json_object": True}, {"regex": "a", "choice": ["b"]}, {"choice": []}):
        yield from _each(BOTH, "structured_outputs", ways)
    yield from _each(BOTH, "structured_outputs", {"regex": "("}, {"x": 1}, None)
    yield from _each(BOTH, "structured_outputs", {"choice": ["yes", "no"]}, stream=True)
    yield from _each(BOTH, "structured_outputs", {}, decided=GIVES_MORE)
    yield from _each(BOTH, "structured_outputs", {"regex": "("}, stream=True, decided=STATUS)
    yield from _each(BOTH, "structured_outputs", {"json": SCHEMA, "whitespace_pattern": " "}, decided=REFUSED)
    yield from _each(BOTH, "guided_regex", "a+", decided=CONSTRAINED)
    yield from _each(BOTH, "guided_choice", ["yes"], decided=CONSTRAINED)
    yield from _each(BOTH, "guided_decoding_backend", "xgrammar")


def _tools() -> Iterator[Case]:
    for tools in ([TOOL], [STRICT], [{"type": "function", "function": {"name": "f"}}], None, "x", [{"type": "x"}]):
        yield from _each("chat", "tools", tools)
    yield from _each("chat", "tools", [TOOL], stream=True)
    yield from _each("chat", "tools", [], decided=GIVES_MORE)
    yield from _each("text", "tools", [TOOL], decided=OTHER_KIND)
    yield from _each("chat", "tool_choice", "none", tools=[TOOL], decided=UNSHOWN)
    for choice in ("auto", None, "x", 5, {"type": "function", "function": {"name": "no_such"}}, {"type": "x"}):
        yield from _each("chat", "tool_choice", choice, tools=[TOOL])
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        yield from _each("chat", "tool_choice", choice, tools=[TOOL], stream=True)
    yield from _each("chat", "tool_choice", "none", None)
    yield from _each("chat", "tool_choice", "required")
    yield from _each("chat", "tool_choice", "auto", decided=PLAIN)
    yield from _each("chat", "parallel_tool_calls", True, False, None, tools=[TOOL])
    yield from _each(BOTH, "functions", [{"name": "f"}], decided=REFUSED)
    yield from _each(BOTH, "function_call", "auto", "none")
    yield from _each(BOTH, "function_call", {"name": "f"}, decided=REFUSED)


def _said_of_the_caller() -> Iterator[Case]:
    for name, value in (
        ("user", "u"), ("metadata", {"a": "b"}), ("store", True), ("service_tier", "auto"), ("verbosity", "low"),
        ("safety_identifier", "x"), ("prompt_cache_key", "x"), ("prompt_cache_retention", "24h"), ("session_id", "s"),
        ("session_id", ""), ("request_id", "r"), ("cache_salt", "abc"), ("cache_salt", "a/b"), ("cache_salt", ""),
        ("stream_interval", 5), ("priority", 0), ("prediction", {"type": "content", "content": "x"}),
        ("modalities", ["text"]), ("audio", None), ("web_search_options", {}), ("vllm_xargs", {"a": 1}),
        ("kv_transfer_params", {"a": 1}), ("ec_transfer_params", {"a": 1}), ("thinking_token_budget", -1),
        ("mm_payload", "none"), ("return_mm_kwargs", True), ("return_token_offsets", True), ("detokenize", False),
    ):  # fmt: skip
        yield from _each(BOTH, name, value)
    yield from _each(BOTH, "modalities", ["text", "audio"], decided=REFUSED)
    yield from _each(BOTH, "web_search_options", {"search_context_size": "low"}, decided=REFUSED)
    yield from _each(BOTH, "return_prompt_text", True, decided=REFUSED)
    yield from _each(BOTH, "user", 5, decided=PLAIN)


def _templates() -> Iterator[Case]:
    yield from _each(BOTH, "chat_template_kwargs", {"a": 1}, {}, None)
    yield from _each(BOTH, "reasoning_effort", "low", None)
    yield from _each(BOTH, "include_reasoning", True, False)
    yield from _each("chat", "documents", [{"title": "a", "text": "b"}], [], None)
    yield from _each("chat", "chat_template", "{{ messages }}")


def _unknown() -> Iterator[Case]:
    for name in ("max_token", "foo", "temprature", "extra_body", "n_probs", "mirostat", "typical_p", "enable_thinking"):
        yield from _each(BOTH, name, {"a": 1})
    yield from _each(BOTH, "", 1)
    yield from _each(BOTH, "ü\r\n", 1)
    yield from _each(BOTH, "best_of", 1, None)
    yield from _each(BOTH, "best_of", 2, decided=REFUSED)
    yield from _each("chat", "prompt", "x", decided=OTHER_KIND)
    yield from _each("text", "messages", USER, decided=OTHER_KIND)


def _streams() -> Iterator[Case]:
    yield from _each(BOTH, "stream", True, False, None, "true", 1, "x")
    for options in ({"include_usage": True}, {"include_usage": False}, {}, None, {"foo": 1}, {"include_usage": "x"}):
        yield from _each(BOTH, "stream_options", options, stream=True)
    yield from _each(BOTH, "stream_options", {"include_usage": True}, {}, None)
    yield from _each("text", "prompt", ["Hi", "there"], ["Hi"], stream=True, stream_options={"include_usage": True})


def _inputs() -> Iterator[Case]:
    yield from _each("text", "prompt", ["Hi", "you"], ["Hi"], "", [], None, {"a": 1}, ["a", 5], [1.5], "x" * 3000)
    yield from _each("text", "prompt", "x" * 3000, stream=True)
    yield from _each("text", "prompt", [True], decided=NO_NUMBER)
    yield from _each(BOTH, "model", "no-such", 5)
    yield from _each(BOTH, "model", "", None, ABSENT)
    yield from _each("text", "max_tokens", ABSENT)
    answered = [*USER, {"role": "assistant", "content": "Yes"}, *USER]
    for messages in (
        [], None, "Hi", ["Hi"], [{"content": "x"}], [{"role": "user", "content": 5}], answered,
        [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, *USER],
        [{"role": "developer", "content": "a"}, *USER], [*USER, {"role": "system", "content": "late"}],
        [{"role": "user", "content": "x", "name": "bob"}], [{"role": "user", "content": ""}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}],
        [{"role": "user", "content": [{"type": "foo", "foo": "x"}]}], [{"role": "user", "content": "x", "foo": 1}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}],
        [*USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
         {"role": "tool", "tool_call_id": "c1", "content": "2"}],
        [*USER, {"role": "assistant", "content": "x", "tool_calls": []}, *USER],
        [*USER, {"role": "assistant", "content": "x", "reasoning_content": "hm"}, *USER],
        [{"role": "user", "content": "\U0001f600\u00e9"}], [{"role": "user", "content": "x" * 3000}],
    ):  # fmt: skip
        yield from _each("chat", "messages", messages)
    yield from _each("chat", "messages", [{"role": "user", "content": None}], decided=GIVES_MORE)
    yield from _each("chat", "messages", [{"role": "unknown", "content": "x"}])
    parts = [*USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, *USER]
    yield from _each("chat", "messages", parts)


GROUPS = {
    group.__name__.strip("_").replace("_", " "): list(group())
    for group in (
        _numbers, _stops, _scores, _choices_of_tokens, _formats, _tools, _said_of_the_caller, _templates, _unknown,
        _streams, _inputs,
    )
}  # fmt: skip
