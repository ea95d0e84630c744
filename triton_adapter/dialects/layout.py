"""Models that take every option as a tensor of its own: TensorRT-LLM's, and most that people write themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec

from adapter_api import Capability, InvalidRequest, ResponseFormat, TaskRequest, Unsupported
from adapter_kit.chat_template import prompt_of
from triton_adapter.dialects.base import TaskDecoder
from triton_adapter.dialects.decoding import LogprobReader, Reading, ReplyScorer, TextDecoder
from triton_adapter.dialects.request import SAMPLING_FIELDS, RequestBuilder, takes_urls
from triton_adapter.schema import EncodedTask, ModelSchema

Names = tuple[str, ...]

_GUIDE_TYPES = {"json": "json", "json_schema": "json_schema", "regex": "regex", "grammar": "ebnf_grammar"}


@dataclass(frozen=True, slots=True)
class Asked:
    """An output, and the input that asks for it; without a `flag` it comes unasked."""

    flag: str | None
    output: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a family of models takes what. Of several names for one thing, the first that a model declares counts."""

    prompt: Names
    text: Names
    prompt_token_ids: Names = ()
    prompt_lengths: Names = ()
    """Inputs for how many token ids the prompt has, where a model wants that told."""
    fields: Mapping[str, Names] = field(default_factory=dict)
    """The task's sampling fields, each with the inputs that may take it."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Sampling fields that go as request parameters when no input takes them."""
    stop: Names = ()
    stream: Names = ()
    without_echo: Names = ()
    """Inputs that keep the prompt out of the answer."""
    images: Names = ()
    finish_reason: tuple[Asked, ...] = ()
    tokens_in: tuple[Asked, ...] = ()
    tokens_out: tuple[Asked, ...] = ()
    logprobs: tuple[Asked, ...] = ()
    guide: Names = ()
    """Inputs for the type and for the text of a constraint."""


@dataclass(frozen=True, slots=True)
class LayoutDialect:
    """Speaks a `Layout`."""

    name: str
    layout: Layout
    cumulative: bool | None = False
    """Whether each reply repeats the text so far; `None` finds out."""
    forwards_parameters: bool = False
    """Whether the model sees request parameters, so that a task may bring its own."""
    read_logprobs: Callable[[str], LogprobReader] | None = None
    """Makes a reader of the output of that name for one task."""
    always_streams: bool = False
    """Whether the family streams although its configuration does not say so (it is not decoupled)."""
    always_says_why: bool = False
    """Whether the family ends no text without a finish reason."""
    may_ignore_images: bool = False
    """Whether a model of the family declares an input for images whether or not it looks at them."""
    no_place_because: str = ""
    """Why the family has no place for sampling fields, where that surprises."""

    always_asked: ClassVar[Names] = ()
    """Outputs that the family cannot go without."""

    def capabilities(self, schema: ModelSchema) -> frozenset[Capability]:
        layout, inputs = self.layout, schema.inputs
        having = {
            Capability.TEXT: True,
            Capability.MESSAGES: True,
            Capability.CONTINUE_FINAL_MESSAGE: True,
            Capability.PROMPT_TOKEN_IDS: _first(layout.prompt_token_ids, inputs) is not None,
            # Stop strings are cut on our side, whatever the model makes of them.
            Capability.STOP: True,
            Capability.STREAMING: self._streams(schema),
            Capability.SEED: "seed" in layout.parameters or _first(layout.fields.get("seed", ()), inputs) is not None,
            **self._image_capabilities(schema),
            Capability.RESPONSE_FORMAT: bool(layout.guide) and all(name in inputs for name in layout.guide),
            Capability.LOGPROBS: _declared(layout.logprobs, schema) is not None,
            Capability.FINISH_REASON: _declared(layout.finish_reason, schema) is not None,
            Capability.USAGE: None not in (_declared(layout.tokens_in, schema), _declared(layout.tokens_out, schema)),
        }
        return frozenset(capability for capability, has in having.items() if has)

    def uncertain(self, schema: ModelSchema) -> frozenset[Capability]:
        taker = _first(self.layout.images, schema.inputs)
        return frozenset({_form_of(taker)} if taker is not None and self.may_ignore_images else ())

    def encode(self, task: TaskRequest, schema: ModelSchema) -> EncodedTask:
        request = RequestBuilder(task, schema)
        self._put_prompt(request)
        self._put_sampling(request)
        self._put_the_rest(request)
        asked = [asked for asked in self._asked(task, schema) if asked is not None]
        for flag in (each.flag for each in asked):
            if flag is not None:
                request.ask(flag)
        figures = self._pass_through(request)
        wanted = [self._text_output(schema), *self.always_asked, *(each.output for each in asked)]
        return request.finish([] if figures else wanted, streaming=self._streams(schema), fields=self._fields_by_input)

    def decoder(self, task: TaskRequest, schema: ModelSchema) -> TaskDecoder:
        return TextDecoder(self._reading(task, schema))

    # -- what families do differently ---------------------------------------------------------------------------------

    def _put_prompt(self, request: RequestBuilder) -> None:
        ids = request.task.prompt_token_ids
        if ids is None:
            request.put_prompt(self.layout.prompt, prompt_of(request.task))
        else:
            self._put_ids(request, ids)

    def _put_ids(self, request: RequestBuilder, ids: Sequence[int]) -> None:
        if not request.put(self.layout.prompt_token_ids, *ids):
            raise request.unsupported("`prompt_token_ids`")
        request.put(self.layout.prompt_lengths, len(ids))

    def _streams(self, schema: ModelSchema) -> bool:
        return schema.decoupled or self.always_streams

    def _image_capabilities(self, schema: ModelSchema) -> dict[Capability, bool]:
        taker = _first(self.layout.images, schema.inputs)
        return {} if taker is None or self.may_ignore_images else {_form_of(taker): True}

    # -- encoding -----------------------------------------------------------------------------------------------------

    def _put_sampling(self, request: RequestBuilder) -> None:
        task, layout = request.task, self.layout
        for name in SAMPLING_FIELDS:
            value = getattr(task, name)
            if value is None or request.put(layout.fields.get(name, ()), value):
                continue
            parameter = layout.parameters.get(name)
            if parameter is None:
                raise request.unsupported(f"`{name}`", self.no_place_because)
            request.parameters[parameter] = value

    def _put_the_rest(self, request: RequestBuilder) -> None:
        task, layout, schema = request.task, self.layout, request.schema
        if task.stop:
            request.put(layout.stop, *task.stop)
        request.put(layout.stream, self._streams(schema))
        for name in layout.without_echo:
            request.ask(name)
        request.put_images(layout.images)
        request.refuse_tools_beside_a_prompt()
        if task.logprobs is not None and _declared(layout.logprobs, schema) is None:
            raise request.unsupported("`logprobs`")
        if task.logprobs:
            raise Unsupported(
                f"model {schema.name!r} tells the probability of the chosen token only: set `logprobs` to 0, "
                "which asks for no alternatives"
            )
        if task.response_format is not None:
            self._put_guide(request, task.response_format)

    def _put_guide(self, request: RequestBuilder, wanted: ResponseFormat) -> None:
        if not self.layout.guide or not all(name in request.schema.inputs for name in self.layout.guide):
            raise request.unsupported("`response_format`")
        kind, guide = self.layout.guide
        request.put((kind,), _GUIDE_TYPES[wanted.type])
        if wanted.type != "json":
            request.put((guide,), constraint_text(wanted))

    def _pass_through(self, request: RequestBuilder) -> bool:
        """Hand on the task's own parameters; true when they ask for outputs of their own."""
        if not request.task.parameters:
            return False
        left = request.pass_through(own=self._own_inputs())
        if left and not self.forwards_parameters:
            raise InvalidRequest(
                f"model {request.schema.name!r} has no input for parameter "
                f"{', '.join(repr(f'triton.{name}') for name in left)}; "
                + (self.no_place_because or f"its inputs are {', '.join(sorted(request.schema.inputs))}")
            )
        request.parameters.update(left)
        return asks_for_figures(request.task)

    def _asked(self, task: TaskRequest, schema: ModelSchema) -> tuple[Asked | None, ...]:
        """Finish reason, tokens in, tokens out and logprobs: how to get each, where the model has it."""
        layout = self.layout
        return (
            _declared(layout.finish_reason, schema),
            _declared(layout.tokens_in, schema),
            _declared(layout.tokens_out, schema),
            _declared(layout.logprobs, schema) if task.logprobs is not None else None,
        )

    def _own_inputs(self) -> Iterable[str]:
        layout = self.layout
        for asked in (*layout.finish_reason, *layout.tokens_in, *layout.tokens_out, *layout.logprobs):
            if asked.flag is not None:
                yield asked.flag
        yield from (*layout.prompt, *layout.prompt_token_ids, *layout.prompt_lengths)
        yield from (*layout.stop, *layout.stream, *layout.without_echo, *layout.images, *layout.guide)
        for names in layout.fields.values():
            yield from names

    def _fields_by_input(self) -> dict[str, str]:
        return {name: field for field, names in self.layout.fields.items() for name in names}

    # -- decoding -----------------------------------------------------------------------------------------------------

    def _reading(self, task: TaskRequest, schema: ModelSchema) -> Reading:
        finish_reason, tokens_in, tokens_out, logprobs = (
            None if asked is None else asked.output for asked in self._asked(task, schema)
        )
        text = self._text_output(schema)
        return Reading(
            text=text,
            finish_reason=finish_reason,
            always_says_why=self.always_says_why and finish_reason is not None,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cumulative=self.cumulative,
            stops=task.stop,
            max_tokens=task.max_tokens,
            running_usage=task.running_usage,
            scorer=ReplyScorer(self.read_logprobs(logprobs)) if self.read_logprobs and logprobs else None,
            figures=asks_for_figures(task),
            known=frozenset({text, finish_reason, tokens_in, tokens_out, logprobs, *self.always_asked}),
        )

    def _text_output(self, schema: ModelSchema) -> str:
        return _first(self.layout.text, schema.outputs) or self.layout.text[0]


def asks_for_figures(task: TaskRequest) -> bool:
    """Whether the task asks the engine for outputs of its own (`triton.return_perf_metrics` and the like)."""
    return any(key.startswith("triton.return_") for key in task.parameters)


def constraint_text(wanted: ResponseFormat) -> str:
    """Return the schema, expression or grammar of a constraint as text."""
    if wanted.json_schema is not None:
        return msgspec.json.encode(wanted.json_schema).decode()
    return wanted.regex or wanted.grammar or ""


def with_overrides(layout: Layout, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Layout:
    """Return the layout with a user's own names in front: field → input or `parameter:name`, meaning → output."""
    fields, parameters = dict(layout.fields), dict(layout.parameters)
    changes: dict[str, Any] = {"fields": fields, "parameters": parameters}
    for name, target in inputs.items():
        if target.startswith("parameter:"):
            fields.pop(name, None)
            parameters[name] = target.removeprefix("parameter:")
        elif name in SAMPLING_FIELDS:
            fields[name] = (target,)
        else:
            changes[name] = (target,)
    for name, output in outputs.items():
        changes[name] = (output,) if name == "text" else (Asked(None, output),)
    return replace(layout, **changes)


def _form_of(taker: str) -> Capability:
    return Capability.IMAGE_URLS if takes_urls(taker) else Capability.IMAGES


def _first(names: Iterable[str], declared: Mapping[str, object]) -> str | None:
    return next((name for name in names if name in declared), None)


def _declared(choices: tuple[Asked, ...], schema: ModelSchema) -> Asked | None:
    for asked in choices:
        if asked.output in schema.outputs and (asked.flag is None or asked.flag in schema.inputs):
            return asked
    return None
