"""From a task to the body of a request. What the engine is known not to take is refused by name, never dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from adapter_api import ImagePart, InvalidRequest, Message, ResponseFormat, TaskRequest, Unsupported
from adapter_api.task import ParameterValue
from adapter_kit.openai.answers import reasoning_of

Kind = Literal["chat", "completion"]

NAMESPACE = "openai"
RUNNING = "continuous_usage_stats"
"""What makes vLLM and others count in every chunk."""
_EFFORT = "reasoning_effort"
"""How much a model is to think. vLLM's server reads it here for models that it renders itself, as gpt-oss."""
_OWN = frozenset({
    "model", "messages", "prompt", "stream", "n", "best_of", "max_tokens", "max_completion_tokens", "min_tokens",
    "temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "chat_template_kwargs", "stream_options",
    "return_token_ids", "continue_final_message", "add_generation_prompt", "prompt_logprobs", "echo",
})  # fmt: skip
"""Fields of the body that a task's own fields, or nobody, decide."""
_EXTENSIONS = frozenset({"min_tokens", "top_k", "repetition_penalty", "chat_template_kwargs"})
"""Fields that OpenAI's API does not have."""
_STRUCTURED = frozenset({
    "logit_bias", "stop_token_ids", "bad_words", "allowed_token_ids", "vllm_xargs", "mm_processor_kwargs",
    "kv_transfer_params", "ec_transfer_params", "media_io_kwargs", "repetition_detection",
})  # fmt: skip
"""Fields that are lists or objects; a task's parameters are scalars, so they come as JSON."""
_LLAMA_CPP = "n_probs"
"""An engine that shows this sampling parameter takes the others of llama.cpp's server: they are one vocabulary."""


def is_llama_cpp(sampling: frozenset[str] | None) -> bool:
    """Return whether an engine with these sampling parameters takes what llama.cpp's server does."""
    return _LLAMA_CPP in (sampling or ())


_CHOICES = frozenset({"auto", "none", "required"})


class Takes(NamedTuple):
    """Which fields the engine says that it takes; `None` where it does not say.

    `sampling` are the names of its sampling parameters, as llama.cpp's server tells them.
    """

    chat: frozenset[str] | None = None
    completion: frozenset[str] | None = None
    sampling: frozenset[str] | None = None
    prompt_ids: bool | None = None
    """Whether a prompt may be token ids; `None` where it does not say what one is."""

    def fields(self, kind: Kind) -> frozenset[str] | None:
        """Return the fields of one kind of request."""
        return self.chat if kind == "chat" else self.completion


class Body(NamedTuple):
    """A request: which face it is for, and its fields."""

    kind: Kind
    fields: dict[str, Any]

    @property
    def path(self) -> str:
        """Where it goes, below the API's root."""
        return "/chat/completions" if self.kind == "chat" else "/completions"

    def encode(self, *, without: frozenset[str] = frozenset()) -> bytes:
        """Return it as JSON, without fields that the engine refused and that the answer can do without."""
        if not without:
            return msgspec.json.encode(self.fields)
        fields = {key: value for key, value in self.fields.items() if key not in without}
        if RUNNING in without and RUNNING in fields.get("stream_options", {}):
            fields["stream_options"] = {"include_usage": True}
        return msgspec.json.encode(fields)


def make_body(
    task: TaskRequest,
    takes: Takes,
    *,
    max_tokens_field: str | None = None,
    extra_fields: frozenset[str] = frozenset(),
) -> Body:
    """Return the request for a task.

    Args:
        takes: Which fields the engine says that it takes.
        max_tokens_field: What it calls `max_tokens`, for an engine that does not say.
        extra_fields: Fields that it takes beside those that it tells.

    Raises:
        Unsupported: The API, or this engine by its own word, has no place for something that the task asks for.
        InvalidRequest: A parameter of the task is one that is not the client's to set.
    """
    kind: Kind = "completion" if task.messages is None else "chat"
    if task.model_version is not None:
        raise Unsupported("OpenAI's API knows no versions of a model; leave `model_version` out")
    fields: dict[str, Any] = {"model": task.model}
    if task.messages is not None:
        fields["messages"] = [_message(message) for message in task.messages]
    else:
        _refuse_beside_prompt(task)
        fields["prompt"] = task.prompt if task.prompt_token_ids is None else task.prompt_token_ids
    if task.prompt_logprobs is None:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        if task.running_usage:
            fields["stream_options"][RUNNING] = True
    else:
        fields |= _prompt_logprobs(task.prompt_logprobs, kind, takes)
    asked = _sampling(task, kind, takes, max_tokens_field)
    declared = takes.fields(kind)
    if declared is not None:
        # A description may be short of OpenAI's own fields, which are what the API is about; it is trusted for others.
        for name in sorted(_EXTENSIONS & asked.keys()):
            if name not in declared:
                raise Unsupported(f"the engine's API has no field {name!r} for a {kind}; leave it out")
    for name, value in task.parameters_for(NAMESPACE).items():
        if name in _OWN:
            raise InvalidRequest(f"the parameter '{NAMESPACE}.{name}' is not to be set: the task has a field for it")
        if name not in extra_fields | (declared or frozenset()) | (takes.sampling or frozenset()):
            raise InvalidRequest(
                f"the parameter '{NAMESPACE}.{name}' is none that the engine says it takes, and many drop what they do "
                "not know: if it takes it, name it in the setting `extra_fields`"
            )
        fields[name] = _from_json(name, value) if name in _STRUCTURED else value
    return Body(kind, fields | asked)


def _from_json(name: str, value: ParameterValue) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        raise InvalidRequest(f"the parameter '{NAMESPACE}.{name}' must be a JSON text") from None


def _refuse_beside_prompt(task: TaskRequest) -> None:
    asked = {
        "images": bool(task.prompt_images),
        "tools": bool(task.tools),
        "chat_template_kwargs": bool(task.chat_template_kwargs),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise Unsupported(f"OpenAI's API takes {name} with messages only, not with a prompt")


def _sampling(task: TaskRequest, kind: Kind, takes: Takes, max_tokens_field: str | None) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for name in (
        "min_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty",
        "repetition_penalty",
    ):  # fmt: skip
        value = getattr(task, name)
        if value is not None:
            asked[_own_name(name, takes.sampling)] = value
    if task.max_tokens is not None:
        asked[max_tokens_field or _max_tokens_field(takes.fields(kind))] = task.max_tokens
    if task.stop:
        asked["stop"] = list(task.stop)
    if task.logprobs is not None:
        # At least one alternative: some engines take none for no log probabilities at all.
        most = max(task.logprobs, 1)
        asked |= {"logprobs": True, "top_logprobs": most} if kind == "chat" else {"logprobs": most}
    if task.response_format is not None:
        asked |= _response_format(task.response_format, takes, kind)
    if task.tools:
        asked["tools"] = [
            {
                "type": "function",
                "function": _given(
                    name=tool.name,
                    description=tool.description,
                    # One that takes nothing is not shown to a model as one that takes an object.
                    parameters=tool.parameters if "parameters" in tool.model_fields_set else None,
                    strict=tool.strict,
                ),
            }
            for tool in task.tools
        ]
        if task.tool_choice is not None:
            asked["tool_choice"] = _tool_choice(task.tool_choice)
    elif task.tool_choice not in (None, "auto", "none"):
        raise InvalidRequest("`tool_choice` chooses among `tools`, and there are none")
    if task.return_token_ids:
        asked["return_token_ids"] = True
    if task.continue_final_message:
        asked["continue_final_message"] = True
    if task.continue_final_message or task.add_generation_prompt is not None:
        asked["add_generation_prompt"] = bool(task.add_generation_prompt)
    if task.chat_template_kwargs:
        variables = asked["chat_template_kwargs"] = dict(task.chat_template_kwargs)
        if _EFFORT in variables and _EFFORT in (takes.fields(kind) or ()):
            asked[_EFFORT] = variables[_EFFORT]
    return asked


def _prompt_logprobs(most: int, kind: Kind, takes: Takes) -> dict[str, Any]:
    """Return what asks how likely a prompt is: vLLM's server tells it in whole answers only."""
    asked: dict[str, Any] = {"stream": False, "prompt_logprobs": most}
    if "return_token_ids" in (takes.fields(kind) or ()):
        asked["return_token_ids"] = True
    if kind == "completion":
        # The first token has no probability, and so no text but here.
        asked |= {"echo": True, "logprobs": 1}
    return asked


def _own_name(name: str, sampling: frozenset[str] | None) -> str:
    """Return what the engine calls a parameter that is not OpenAI's, where it tells its parameters' names."""
    if sampling is None or name not in ("min_tokens", "top_k", "repetition_penalty") or name in sampling:
        return name
    if name == "repetition_penalty" and "repeat_penalty" in sampling:
        return "repeat_penalty"
    raise Unsupported(f"the engine has no sampling parameter {name!r}; leave it out")


def _max_tokens_field(declared: frozenset[str] | None) -> str:
    if declared is not None and "max_tokens" not in declared and "max_completion_tokens" in declared:
        return "max_completion_tokens"
    return "max_tokens"


def _response_format(wanted: ResponseFormat, takes: Takes, kind: Kind) -> dict[str, Any]:
    declared = takes.fields(kind) or frozenset()
    own_words = is_llama_cpp(takes.sampling)
    schema = {"type": "object"} if wanted.json_schema is None else dict(wanted.json_schema)
    if wanted.type in ("json", "json_schema"):
        if kind == "completion" and "response_format" not in declared:
            if own_words:
                return {"json_schema": schema}
            raise Unsupported("OpenAI's API takes a response format with messages only, not with a prompt")
        if wanted.type == "json":
            return {"response_format": {"type": "json_object"}}
        named = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    # OpenAI's API has none of these: each engine has names of its own, and those that take them tell which.
    text = wanted.regex if wanted.type == "regex" else wanted.grammar
    if "structured_outputs" in declared:
        return {"structured_outputs": {wanted.type: text}}
    if wanted.type == "grammar" and own_words:
        return {"grammar": text}
    for name in (f"guided_{wanted.type}", wanted.type, "ebnf" if wanted.type == "grammar" else ""):
        if name in declared:
            return {name: text}
    raise Unsupported(f"the engine does not say that it takes a {wanted.type}; ask for a JSON schema instead")


def _tool_choice(choice: str) -> Any:
    return choice if choice in _CHOICES else {"type": "function", "function": {"name": choice}}


def _message(message: Message) -> dict[str, Any]:
    content: Any = message.content
    is_plain = not message.tool_calls and message.name is message.tool_call_id is message.reasoning is None
    if type(content) is str and is_plain:
        return {"role": message.role, "content": content}  # as nearly all are
    if isinstance(content, tuple):
        content = [
            {"type": "image_url", "image_url": {"url": part.url or f"data:{part.media_type};base64,{part.data}"}}
            if isinstance(part, ImagePart)
            else {"type": "text", "text": part.text}
            for part in content
        ]
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    return {
        "role": message.role,
        "content": content,
        **_given(name=message.name, tool_call_id=message.tool_call_id, tool_calls=calls or None),
        **(reasoning_of(message.reasoning) if message.reasoning else {}),
    }


def _given(**fields: Any) -> Mapping[str, Any]:
    return {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value is not None
    }


def private(task: TaskRequest) -> list[str]:
    """Return the task's texts, which no message may quote."""
    if task.prompt is not None:
        return [task.prompt]
    calls = (call.arguments for message in task.messages or () for call in message.tool_calls)
    thoughts = (message.reasoning for message in task.messages or () if message.reasoning)
    return [*(message.text for message in task.messages or ()), *calls, *thoughts]


def quotable(task: TaskRequest) -> list[str]:
    """Return other texts of the task: an engine that quotes one must not be taken at the client's word."""
    texts = [task.model, *task.stop, *task.parameters_for(NAMESPACE)]
    texts += [value for value in task.parameters.values() if isinstance(value, str)]
    wanted = task.response_format
    if wanted is not None:
        texts += [text for text in (wanted.regex, wanted.grammar) if text is not None]
    return [*texts, *(tool.name for tool in task.tools)]
