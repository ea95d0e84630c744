"""The bodies that routes take, as `/openapi.json` describes them."""

from __future__ import annotations

from typing import Any

from adapter_api.bounds import MAX_DIMS, MAX_MESSAGES, MAX_TENSORS, MAX_TOKEN_ID

_TASK = "#/components/schemas/TaskRequest"
_FLAG = {"type": "boolean"}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}
_TEXT = {"type": "string"}

_ALIKE = (
    "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "max_tokens", "min_tokens", "stop", "priority", "session_id", "job_id", "parameters", "timeout_s",
)  # fmt: skip
"""Fields of OpenAI's requests that mean what they mean in a task."""


def json_body(
    schema: dict[str, Any], description: str, *, required: bool = True, binary: bool = False
) -> dict[str, Any]:
    """Return what a route says of its body: `openapi_extra` of FastAPI."""
    content = {"application/json": {"schema": schema}}
    if binary:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": required, "description": description, "content": content}}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


def _field(name: str) -> dict[str, Any]:
    return {"$ref": f"{_TASK}/properties/{name}"}


_CHAT_MESSAGE = _object(
    ("role",),
    role=_TEXT,
    content={"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}, {"type": "null"}]},
    tool_calls={"type": "array", "items": {"type": "object"}},
    tool_call_id=_TEXT,
)
_COUNT = {"type": "integer", "minimum": 1, "default": 1}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}}
_FORMAT = _object(("type",), type=_TEXT, json_schema={"type": "object"})
_COMMON = {
    "model": {"type": "string", "minLength": 1},
    **{name: _field(name) for name in _ALIKE},
    "stream": _FLAG,
    "stream_options": _object(include_usage=_FLAG, continuous_usage_stats=_FLAG),
    "history": _FLAG,
}

TASK = json_body(
    {
        "allOf": [
            {"$ref": _TASK},
            _object(
                on_disconnect={"enum": ["cancel", "keep"], "default": "cancel"}, history={**_FLAG, "default": False}
            ),
        ]
    },
    "A `TaskRequest`, and how the host is to treat it: `on_disconnect` (`cancel` or `keep`) and `history` (put the "
    "session's conversation before the messages, and remember this turn).",
)
_FORMAT = _object(("type",), type=_TEXT, json_schema={"type": "object"})
CHAT = json_body(
    _object(
        ("model", "messages"),
        **_COMMON,
        messages={"type": "array", "items": _CHAT_MESSAGE, "minItems": 1, "maxItems": MAX_MESSAGES},
        max_completion_tokens=_field("max_tokens"),
        logprobs=_FLAG,
        top_logprobs=_field("logprobs"),
        response_format=_FORMAT,
        tools={"type": "array", "items": _object(("type", "function"), type=_TEXT, function={"type": "object"})},
        tool_choice={"anyOf": [_TEXT, {"type": "object"}]},
        chat_template_kwargs=_field("chat_template_kwargs"),
        reasoning_effort=_TEXT,
        documents={"type": "array", "items": {"type": "object"}},
        continue_final_message=_FLAG,
        add_generation_prompt=_FLAG,
        return_token_ids=_FLAG,
        prompt_logprobs=_field("prompt_logprobs"),
        include_reasoning=_FLAG,
        parallel_tool_calls=_FLAG,
        n=_COUNT,
    ),
    "A chat completion as OpenAI's API has it; a field that cannot be honoured is refused by name.",
)
COMPLETION = json_body(
    _object(
        ("model", "prompt"),
        **_COMMON,
        prompt={"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, _IDS, {"type": "array", "items": _IDS}]},
        logprobs=_field("logprobs"),
        response_format=_FORMAT,
        echo=_FLAG,
        return_token_ids=_FLAG,
        prompt_logprobs=_field("prompt_logprobs"),
        n=_COUNT,
        best_of=_COUNT,
    ),
    "A completion as OpenAI's API has it; a field that cannot be honoured is refused by name.",
)
_ITEM = {"type": "object", "properties": {"type": _TEXT, "role": _TEXT}}
RESPONSE = json_body(
    _object(
        ("model", "input"),
        **{name: schema for name, schema in _COMMON.items() if name != "history"},
        input={"anyOf": [_TEXT, {"type": "array", "items": _ITEM, "minItems": 1}]},
        instructions=_TEXT,
        previous_response_id=_TEXT,
        store={**_FLAG, "default": True},
        max_output_tokens=_field("max_tokens"),
        text=_object(format=_object(("type",), type=_TEXT, schema={"type": "object"})),
        tools={
            "type": "array",
            "items": _object(("type", "name"), type=_TEXT, name=_TEXT, parameters={"type": "object"}),
        },
        tool_choice={"anyOf": [_TEXT, {"type": "object"}]},
        parallel_tool_calls=_FLAG,
        reasoning=_object(effort=_TEXT),
        include={"type": "array", "items": _TEXT},
        top_logprobs=_field("logprobs"),
        truncation={"enum": ["auto", "disabled"]},
        metadata={"type": "object", "additionalProperties": _TEXT},
        chat_template_kwargs=_field("chat_template_kwargs"),
    ),
    "A response as OpenAI's API has it; a field that cannot be honoured is refused by name.",
)
EMBEDDING = json_body(
    _object(
        ("model", "input"),
        model={"type": "string", "minLength": 1},
        input={"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
        encoding_format={"enum": ["float", "base64"], "default": "float"},
        dimensions={"type": "integer", "minimum": 1},
        timeout_s=_field("timeout_s"),
    ),
    "Texts to embed, as OpenAI's API has it. `dimensions` must be what the model gives anyway.",
)
INFERENCE = json_body(
    _object(
        ("inputs",),
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs={
            "type": "array",
            "maxItems": MAX_TENSORS,
            "items": _object(
                ("name", "datatype", "shape"),
                name=_TEXT,
                datatype=_TEXT,
                shape={"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": MAX_DIMS},
                parameters=_PARAMETERS,
                data={"type": "array"},
            ),
        },
        outputs={
            "type": "array",
            "maxItems": MAX_TENSORS,
            "items": _object(("name",), name=_TEXT, parameters=_PARAMETERS),
        },
    ),
    "An inference of the v2 protocol: JSON, or JSON and binary tensors after it, whose length the header "
    "`Inference-Header-Content-Length` tells.",
    binary=True,
)
INDEX = json_body(_object(ready=_FLAG), "`ready`: only what is.", required=False)
_REPOSITORY_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["boolean", "integer", "string"]}}
LOAD = json_body(
    _object(parameters=_REPOSITORY_PARAMETERS),
    "`config`: a whole configuration as JSON text, instead of the repository's; `file:<path>`: a file in base64.",
    required=False,
)
UNLOAD = json_body(
    _object(parameters=_REPOSITORY_PARAMETERS), "`unload_dependents`: what only this model needs, too.", required=False
)
GENERATION = json_body(
    _object(id=_TEXT, parameters=_PARAMETERS, text_input=_TEXT) | {"additionalProperties": True},
    "The model's own inputs by name, each a value or a list of them; any other key, and what is in `parameters`, is a "
    "parameter of the request. A model that takes text and declares no tensors takes `text_input`.",
)
DRAIN = json_body(
    _object(replica_id=_TEXT, timeout_s={"type": "number", "minimum": 0, "maximum": 3600, "default": 0}, resume=_FLAG)
    | {"additionalProperties": False},
    "Which replica, absent: all; how long to wait for what runs; `resume`: take it back.",
    required=False,
)
RELOAD = json_body(
    _object(revert=_FLAG) | {"additionalProperties": False}, "`revert`: take the pool back one step.", required=False
)
