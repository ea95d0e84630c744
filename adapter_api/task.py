"""What a task asks for: validated once, at the edge, and frozen from then on."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping, Sized
from itertools import islice
from math import isfinite
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from adapter_api.bounds import (
    MAX_DEPTH,
    MAX_MESSAGES,
    MAX_NAME,
    MAX_PARAMETERS,
    MAX_PARTS,
    MAX_PROMPT_TOKENS,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    MAX_TIMEOUT_S,
    MAX_TOKEN_ID,
    MAX_TOOLS,
    MAX_URL,
    is_deeper_than,
)
from adapter_api.errors import InvalidRequest
from adapter_api.props import Capability

Role = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
"""Who speaks: `system`, `developer`, `user`, `assistant`, `tool`, or a word that the model's chat template knows beside
these, as `document` or `ipython`; a template refuses what it does not know."""
Priority = Literal["interactive", "batch"]
ParameterValue = bool | int | float | str

_DATA_URL = re.compile(r"^data:(?P<media>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,(?P<data>.*)$", re.DOTALL)
TraceHeaders = tuple[tuple[str, str], ...]
"""Names and values of the headers that carry a trace."""
TRACESTATE_LIMIT, BAGGAGE_LIMIT = 512, 8192
"""Characters that are passed on at least, says W3C; and here at most."""
HEADER_TEXT = r"^[\x20-\x7e]*$"


def trace_headers(traceparent: str | None, tracestate: str | None, baggage: str | None) -> TraceHeaders:
    """Return the headers that carry a trace; without a `traceparent` its `tracestate` means nothing."""
    if traceparent is None and baggage is None:
        return ()
    state = tracestate if traceparent is not None else None
    named = (("traceparent", traceparent), ("tracestate", state), ("baggage", baggage))
    return tuple((name, value) for name, value in named if value)


# 32 hexadecimal digits of trace, 16 of span: https://www.w3.org/TR/trace-context/#traceparent-header
# What may follow in a later version stays short and visible ASCII: a transport may take nothing else.
TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,256})?$"


def _is_encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate)") from None
    return text


def _is_number(value: Any) -> Any:
    """Refuse what only looks like a number: `true`, and a number in quotes."""
    if type(value) is int or type(value) is float:  # as most are; the rest asks thoroughly
        return value
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("must be a number, not true, false or a text")
    return value


def _is_no_deeper(value: dict[str, Any]) -> dict[str, Any]:
    if is_deeper_than(value, MAX_DEPTH):
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    return value


def _require_at_most(value: Any, most: int, what: str) -> Any:
    """Refuse a collection before each of its members is looked at."""
    # A dict and a list first, which most are: to ask whether something is `Sized` takes longer.
    counts = type(value) in (dict, list) or (isinstance(value, Sized) and not isinstance(value, str | bytes))
    if counts and len(value) > most:
        raise ValueError(f"has {len(value)} {what}; there may be {most}")
    return value


_TEMPLATE_VALUES, _TEMPLATE_BYTES = 64, 65536
_FAULTS_NAMED = 10
_UNKNOWN_FIELDS = 10
_LONGEST_STEP = 64
_B64_STEP = 2**20

Text = Annotated[str, AfterValidator(_is_encodable)]
_NUMBER = BeforeValidator(_is_number)
JsonObject = Annotated[dict[str, Any], AfterValidator(_is_no_deeper)]
# A text whose length is looked at has to be encodable for that.
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _no_map() -> Mapping[str, Any]:
    return _EMPTY


def _frozen_map(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    _most_fields: ClassVar[int]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._most_fields = len(cls.model_fields) + _UNKNOWN_FIELDS

    @model_validator(mode="before")
    @classmethod
    def _has_few_unknown_fields(cls, value: Any) -> Any:
        """Refuse a million of unknown fields at once, not one by one."""
        if (type(value) is dict or isinstance(value, Mapping)) and len(value) > cls._most_fields:
            first = islice((name for name in value if name not in cls.model_fields), _UNKNOWN_FIELDS)
            more = len(value) - sum(name in value for name in cls.model_fields) - _UNKNOWN_FIELDS
            raise ValueError(f"unknown fields: {', '.join(map(_step, first))}; and {more} more")
        return value


class TextPart(_Frozen):
    """A piece of text inside a message."""

    type: Literal["text"] = "text"
    text: Text


class ImagePart(_Frozen):
    """An image inside a message: carried by value (`data`, as base64 or a `data:` URL), or by the `url` from which the
    model itself fetches it.

    An adapter fetches nothing on a caller's behalf: a model that takes the other form only is no place for the image,
    and the adapter refuses it as `Unsupported`.
    """

    type: Literal["image"] = "image"
    data: str = Field(
        default="",
        repr=False,
        description="base64 of the encoded image (PNG, JPEG, …), without line breaks; absent beside `url`",
    )
    url: str | None = Field(
        default=None,
        repr=False,
        max_length=MAX_URL,
        pattern=r"^https?://[!-~]+$",
        description="http(s) URL in place of `data`; only models with the capability `image_urls` take it",
    )
    media_type: str = Field(default="application/octet-stream", max_length=MAX_NAME)

    @model_validator(mode="before")
    @classmethod
    def _accept_bytes_and_data_urls(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "data" not in value:
            return value
        fields = dict(value)
        data = fields["data"]
        if isinstance(data, bytes | bytearray | memoryview):
            fields["data"] = base64.b64encode(data).decode("ascii")
        elif isinstance(data, str) and (url := _DATA_URL.match(data)):
            fields["data"] = url["data"]
            if url["media"]:
                fields.setdefault("media_type", url["media"])
        return fields

    @field_validator("data")
    @classmethod
    def _is_base64(cls, data: str) -> str:
        if data.startswith(("http://", "https://")):
            raise ValueError("must be base64 or a data: URL; give a URL that the model fetches itself as `url`")
        # Piece by piece: of one call other threads, an event loop for one, would have to await the end.
        try:
            for at in range(0, len(data), _B64_STEP):
                piece = data[at : at + _B64_STEP]
                if not base64.b64decode(piece, validate=True) or (at + _B64_STEP < len(data) and "=" in piece):
                    raise ValueError("is not valid base64")
        except binascii.Error as exc:
            raise ValueError("is not valid base64") from exc
        return data

    @model_validator(mode="after")
    def _is_given_once(self) -> Self:
        if not self.data and self.url is None:
            raise ValueError("the image is empty: give its `data`, or the `url` from which the model fetches it")
        if self.data and self.url is not None:
            raise ValueError("give the image's `data` or its `url`, not both")
        return self

    @property
    def content(self) -> bytes:
        """The encoded image itself; empty when it is told by `url`."""
        return base64.b64decode(self.data)


class ToolCall(_Frozen):
    """A function call an assistant made in an earlier turn, as `gather_tool_calls` returns it."""

    id: Name
    name: Name
    arguments: Text = Field(description="the arguments as a JSON text")


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Frozen):
    """One turn of a conversation."""

    role: Role
    content: Text | Annotated[tuple[Part, ...], Field(fail_fast=True)] | None = Field(
        repr=False, description="a text, or texts and images in their order; null beside `tool_calls` only"
    )
    name: Name | None = None
    tool_call_id: Name | None = None
    tool_calls: tuple[ToolCall, ...] = Field(default=(), fail_fast=True)
    reasoning: Text | None = Field(
        default=None, repr=False, description="what the model thought, for chat templates that show it its old thoughts"
    )

    @field_validator("content", "tool_calls", mode="before")
    @classmethod
    def _has_few_parts(cls, value: Any) -> Any:
        return _require_at_most(value, MAX_PARTS, "parts")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is null, which it may be beside tool_calls only")
        return self

    @property
    def text(self) -> str:
        """The text parts, joined; images leave no trace in it, and null is empty."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def last_text(self) -> str:
        """The text that the message ends with: the last of its parts, empty where that is an image."""
        if not isinstance(self.content, tuple):
            return self.content or ""
        last = self.content[-1] if self.content else None
        return last.text if isinstance(last, TextPart) else ""

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The image parts, in order."""
        if self.content is None or isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, ImagePart))


class Tool(_Frozen):
    """A function the model may call."""

    name: Name
    description: Text | None = None
    parameters: JsonObject = Field(default_factory=dict, description="JSON Schema of the arguments")
    strict: bool | None = Field(
        default=None, description="whether the engine is to see to it that calls follow `parameters`, if it can"
    )


class ResponseFormat(_Frozen):
    """A constraint on the text: exactly one of a JSON Schema, a regular expression, or a grammar."""

    type: Literal["json", "json_schema", "regex", "grammar"]
    json_schema: JsonObject | None = None
    regex: Text | None = None
    grammar: Text | None = Field(default=None, description="EBNF")

    @model_validator(mode="after")
    def _carries_what_its_type_says(self) -> Self:
        given = {name for name in ("json_schema", "regex", "grammar") if getattr(self, name) is not None}
        wanted = {self.type} - {"json"}
        if given != wanted:
            raise ValueError(f"type {self.type!r} needs exactly {sorted(wanted) or 'no other field'}")
        return self


def _not_blank(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def require_parameter(name: str, value: ParameterValue) -> None:
    """Raise `ValueError` when an engine's parameter is one that no wire carries: too long a name, a number that is not
    finite or has more than 64 bits."""
    if len(name) > MAX_NAME:
        raise ValueError(f"key {_step(name)!r} has {len(name)} characters; there may be {MAX_NAME}")
    fits = isfinite(value) if isinstance(value, float) else not isinstance(value, int) or -(2**63) <= value < 2**63
    if not fits:
        raise ValueError(f"{name!r} must be a finite number of at most 64 bits")


StopString = Annotated[Text, AfterValidator(_not_blank)]
TokenId = Annotated[int, Field(strict=True, ge=0, le=MAX_TOKEN_ID)]
_NONE: frozenset[Capability] = frozenset()
_BROUGHT_BY_1_2 = frozenset({
    Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE, Capability.PROMPT_LOGPROBS,
})  # fmt: skip
JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


def new_job_id() -> str:
    """Return a `job_id` that no other task has: 32 hexadecimal digits."""
    return os.urandom(16).hex()


class TaskRequest(_Frozen):
    """One piece of work for one model. Frozen, and valid by construction.

    Give one of `prompt`, `prompt_token_ids` and `messages`. Fields that are `None` are not sent: the engine's own
    default holds. Unknown fields are refused by name. Build it from foreign data with `TaskRequest.parse`, which raises
    the contract's own error.
    """

    job_id: JobId = Field(default_factory=new_job_id, description="names the task; made when absent")
    model: Name
    model_version: Name | None = Field(default=None, description="the engine's own choice when absent")
    prompt: Text | None = Field(default=None, repr=False)
    prompt_token_ids: tuple[TokenId, ...] | None = Field(
        default=None,
        repr=False,
        fail_fast=True,
        description="the prompt as the ids of the model's own tokens, to which the engine adds none",
    )
    # The first bad one is told: a list of a million must not make as many faults.
    messages: tuple[Message, ...] | None = Field(default=None, repr=False, fail_fast=True)
    prompt_images: tuple[ImagePart, ...] = Field(
        default=(),
        repr=False,
        fail_fast=True,
        description="images that go with `prompt`, whose marks for them are the model's own; in the marks' order",
    )
    chat_template_kwargs: Annotated[Mapping[str, JsonValue], AfterValidator(_frozen_map), PlainSerializer(dict)] = (
        Field(
            default_factory=_no_map,
            repr=False,
            description="values that the chat template of `messages` finds, as `enable_thinking`",
        )
    )
    continue_final_message: bool = Field(
        default=False, description="the answer goes on from the last of `messages`, which the template leaves open"
    )
    add_generation_prompt: bool | None = Field(
        default=None,
        description="whether the template of `messages` invites an answer behind them; true when absent, unless the "
        "last message is continued",
    )

    # The limits stand with the type: pydantic then looks at them without a call of Python's.
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1), _NUMBER] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=2**31 - 1), _NUMBER] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _NUMBER] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1), _NUMBER] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1), _NUMBER] | None = None
    stop: tuple[StopString, ...] = Field(default=(), repr=False, fail_fast=True)
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False), _NUMBER] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False), _NUMBER] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER] | None = None
    logprobs: Annotated[int, Field(ge=0, le=100), _NUMBER] | None = Field(
        default=None, description="alternatives to tell per token, the likeliest; 0: the chosen one only"
    )
    prompt_logprobs: Annotated[int, Field(ge=-1, le=100), _NUMBER] | None = Field(
        default=None,
        description="tell how likely each token of the prompt is, and as many of the likeliest in its place, -1: all "
        "that the engine knows; an engine may tell the whole answer at once then",
    )
    response_format: ResponseFormat | None = Field(default=None, repr=False)
    tools: tuple[Tool, ...] = Field(default=(), repr=False, fail_fast=True)
    tool_choice: Name | None = None
    return_token_ids: bool = Field(
        default=False, description="tell the ids of the engine's tokens, of the prompt and of the answer"
    )
    running_usage: bool = Field(
        default=False, description="tell with `metrics` events what has been counted so far, where the engine does"
    )
    n: Annotated[Literal[1], BeforeValidator(_is_number)] = Field(
        default=1, description="number of completions; only one is supported"
    )

    priority: Priority = "interactive"
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False), _NUMBER] | None = Field(
        default=None, description="seconds for the whole task, from submission"
    )
    session_id: SessionId | None = None
    parameters: Annotated[Mapping[str, ParameterValue], PlainSerializer(dict)] = Field(
        default_factory=_no_map,
        repr=False,
        description="passed to the engine as they are; keys are `<engine>.<name>`, as in `triton.lora_name`",
    )
    traceparent: str | None = Field(default=None, pattern=TRACEPARENT, description="W3C trace context")
    tracestate: str | None = Field(
        default=None, max_length=TRACESTATE_LIMIT, pattern=HEADER_TEXT, description="what tracing systems add to it"
    )
    baggage: str | None = Field(
        default=None, max_length=BAGGAGE_LIMIT, pattern=HEADER_TEXT, description="W3C baggage, passed on unread"
    )

    @property
    def trace_headers(self) -> TraceHeaders:
        """The headers by which the trace goes on in the engine."""
        said = self.__dict__
        if said["traceparent"] is None and said["baggage"] is None:
            return ()
        return trace_headers(said["traceparent"], said["tracestate"], said["baggage"])

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_string_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else () if value is None else value

    @field_validator("prompt_images", mode="before")
    @classmethod
    def _has_few_images(cls, value: Any) -> Any:
        return _require_at_most(value, MAX_PARTS, "images")

    @field_validator("prompt_token_ids", mode="before")
    @classmethod
    def _has_few_token_ids(cls, value: Any) -> Any:
        return _require_at_most(value, MAX_PROMPT_TOKENS, "token ids")

    @field_validator("messages", mode="before")
    @classmethod
    def _has_few_messages(cls, value: Any) -> Any:
        return _require_at_most(value, MAX_MESSAGES, "messages")

    @field_validator("stop", mode="before")
    @classmethod
    def _has_few_stop_strings(cls, value: Any) -> Any:
        return _require_at_most(value, MAX_STOP_STRINGS, "stop strings")

    @field_validator("stop")
    @classmethod
    def _stop_strings_are_short(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if (characters := sum(map(len, value))) > MAX_STOP_CHARACTERS:
            raise ValueError(f"has {characters} characters in all; there may be {MAX_STOP_CHARACTERS}")
        return value

    @field_validator("tools", mode="before")
    @classmethod
    def _has_few_tools(cls, value: Any) -> Any:
        return _require_at_most(value, MAX_TOOLS, "tools")

    @field_validator("tool_choice")
    @classmethod
    def _chooses_among_the_tools(cls, value: str | None, info: ValidationInfo) -> str | None:
        tools: tuple[Tool, ...] | None = info.data.get("tools")  # none when they are at fault themselves
        if value in (None, "auto", "none") or tools is None:
            return value
        if not tools:
            raise ValueError("chooses among 'tools', and there are none")
        if value != "required" and all(tool.name != value for tool in tools):
            raise ValueError("names a tool that is not among 'tools'")
        return value

    @field_validator("parameters", mode="before")
    @classmethod
    def _has_few_parameters(cls, value: Any) -> Any:
        if type(value) is dict and len(value) <= MAX_PARAMETERS:
            return value
        return _require_at_most(value, MAX_PARAMETERS, "parameters")

    @field_validator("parameters")
    @classmethod
    def _parameters_are_namespaced(cls, value: Mapping[str, ParameterValue]) -> Mapping[str, ParameterValue]:
        for key, each in value.items():
            namespace, dot, name = key.partition(".")
            if not (namespace and dot and name):
                shown = _step(key)
                raise ValueError(f"key {shown!r} needs its engine's namespace, as in 'triton.{shown}'")
            if type(each) is not str or len(key) > MAX_NAME:  # about a text there is nothing more to ask
                require_parameter(key, each)
        return MappingProxyType(dict(value))

    @field_validator("chat_template_kwargs")
    @classmethod
    def _template_values_are_few(cls, value: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        try:
            size = len(json.dumps(dict(value), allow_nan=False).encode()) if value else 0
        except (ValueError, RecursionError):
            raise ValueError("must hold values that JSON has, and not too deep") from None
        if len(value) > _TEMPLATE_VALUES or size > _TEMPLATE_BYTES:
            raise ValueError(f"must be at most {_TEMPLATE_VALUES} values, and {_TEMPLATE_BYTES} bytes as JSON")
        return value

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        # Of a plain prompt at a glance: a model's own way to a field takes several times as long as its dict.
        said = self.__dict__
        plain = said["prompt"] and said["messages"] is said["prompt_token_ids"] is said["add_generation_prompt"] is None
        if not plain or said["chat_template_kwargs"] or said["continue_final_message"]:
            self._has_a_sound_prompt()
        least, most = said["min_tokens"], said["max_tokens"]
        if least is not None and most is not None and least > most:
            raise ValueError("'min_tokens' is larger than 'max_tokens'")
        return self

    def _has_a_sound_prompt(self) -> None:
        if self.prompt is not None and self.messages is not None:
            raise ValueError("give either 'prompt' or 'messages', not both")
        if self.prompt_token_ids is not None:
            if self.prompt is not None or self.messages is not None:
                raise ValueError("'prompt_token_ids' stand for 'prompt' or 'messages': give one of them")
        elif self.prompt is None and self.messages is None:
            raise ValueError("give 'prompt' or 'messages'")
        if self.messages == ():
            raise ValueError("'messages' is empty; give one at least")
        if self.prompt == "" or self.prompt_token_ids == ():
            raise ValueError("the prompt is empty")
        if self.prompt is None and self.prompt_images:
            raise ValueError("'prompt_images' go with 'prompt'; in messages, images are parts of a content")
        if self.messages is None and self.chat_template_kwargs:
            raise ValueError("'chat_template_kwargs' are for the template of 'messages'")
        if self.continue_final_message or self.add_generation_prompt is not None:
            self._has_an_end_to_go_on_from()
        if self.messages is not None:
            parts = sum(
                len(message.tool_calls) + (len(message.content) if isinstance(message.content, tuple) else 0)
                for message in self.messages
            )
            _require_at_most(range(parts), MAX_PARTS, "parts and tool calls in all messages")

    def _has_an_end_to_go_on_from(self) -> None:
        if self.messages is None:
            raise ValueError("'continue_final_message' and 'add_generation_prompt' are for the template of 'messages'")
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError("'continue_final_message' goes on from a message and 'add_generation_prompt' begins one")
        if self.continue_final_message and not self.messages[-1].last_text.strip():
            raise ValueError("'continue_final_message' goes on from the last message, which does not end with a text")

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """Return the task that foreign `fields` describe.

        Raises:
            InvalidRequest: `fields` is not a valid task; the message names every field at fault, never its value.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as exc:
            raise InvalidRequest(describe_validation_error(exc, "task")) from exc

    @classmethod
    def parse_json(cls, text: str | bytes) -> Self:
        """Return the task that a JSON object describes; raises like `parse`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            raise InvalidRequest(describe_validation_error(exc, "task")) from exc

    def parameters_for(self, namespace: str) -> dict[str, ParameterValue]:
        """Return the pass-through parameters of one engine, without their namespace."""
        if not self.parameters:
            return {}
        prefix = f"{namespace}."
        return {key[len(prefix) :]: value for key, value in self.parameters.items() if key.startswith(prefix)}

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """Every image of the task, in order: those of every message, or those that go with the prompt."""
        if self.messages is None:
            return self.prompt_images
        return tuple(image for message in self.messages for image in message.images)

    @property
    def needs(self) -> frozenset[Capability]:
        """What a model has to be capable of to take this task. An adapter refuses what is missing as `Unsupported`."""
        # One condition after another: hosts and adapters ask several times per task.
        if self.messages is not None:
            asked = {Capability.MESSAGES}
        else:
            asked = {Capability.TEXT if self.prompt_token_ids is None else Capability.PROMPT_TOKEN_IDS}
        for message in self.messages or ():
            if type(message.content) is not str and (images := message.images):
                asked |= {Capability.IMAGES if image.url is None else Capability.IMAGE_URLS for image in images}
        for image in self.prompt_images:
            asked.add(Capability.IMAGES if image.url is None else Capability.IMAGE_URLS)
        if self.stop:
            asked.add(Capability.STOP)
        if self.seed is not None:
            asked.add(Capability.SEED)
        if self.logprobs is not None:
            asked.add(Capability.LOGPROBS)
        if self.response_format is not None:
            asked.add(Capability.RESPONSE_FORMAT)
        if self.tools:
            asked.add(Capability.TOOLS)
        if self.chat_template_kwargs:
            asked.add(Capability.CHAT_TEMPLATE_KWARGS)
        if self.return_token_ids:
            asked.add(Capability.TOKEN_IDS)
        if self.prompt_logprobs is not None:
            asked.add(Capability.PROMPT_LOGPROBS)
        if self.continue_final_message or self.add_generation_prompt is False:
            asked.add(Capability.CONTINUE_FINAL_MESSAGE)
        return frozenset(asked)

    @property
    def needs_heed(self) -> frozenset[Capability]:
        """Of `needs`, what version 1.2 of the contract brought: see `WorkerAdapter.heeds`."""
        said = self.__dict__
        if said["prompt_token_ids"] is said["prompt_logprobs"] is None and not (
            said["return_token_ids"] or said["continue_final_message"] or said["add_generation_prompt"] is False
        ):
            return _NONE
        return self.needs & _BROUGHT_BY_1_2


def describe_validation_error(exc: ValidationError, what: str) -> str:
    """Return one sentence that names the fields at fault, the first ones of many, and what is wrong with each; without
    any value."""
    faults: list[str] = []
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    before = ""
    for error in errors[:_FAULTS_NAMED]:
        place = ".".join(_step(step) for step in error["loc"] if not _is_alternative(step))
        message = in_words_of_json(error["msg"].removeprefix("Value error, "))
        if error["type"] == "extra_forbidden":
            message = "unknown field"
        if place and place == before and message.startswith(_SHOULD_BE):  # another kind that the field may have
            faults[-1] += f" or {message.removeprefix(_SHOULD_BE)}"
        else:
            faults.append(f"{place}: {message}" if place else message)
        before = place if message.startswith(_SHOULD_BE) else ""
    if len(errors) > _FAULTS_NAMED:
        faults.append(f"and {len(errors) - _FAULTS_NAMED} more")
    return f"invalid {what}: " + "; ".join(faults)


_SHOULD_BE = "Input should be "


def in_words_of_json(message: str) -> str:
    """Return a message of pydantic's in the words of those who write JSON, or TOML, and not Python."""
    return message.replace("a valid tuple", "a list")


def _step(step: int | str) -> str:
    text = str(step)
    return text if len(text) <= _LONGEST_STEP else f"{text[:_LONGEST_STEP]}…"


def _is_alternative(step: int | str) -> bool:
    """Whether it is no field but pydantic's name for one of the types that a field may have, as in `tuple[…]`."""
    return isinstance(step, str) and step.endswith("]") and "[" in step
