"""A text task in one model's own terms.

Most tasks differ from the one before in their prompt only. What they have in common is their `Shape`: it is made of the
first of them, and a plan of it costs a tenth of what it costs to make one anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import itemgetter
from typing import Any

import msgspec

from adapter_api import Capability, RequestedOutput, Started, TaskRequest, Tensor, Unsupported
from adapter_kit.chat_template import prompt_of
from triton_adapter.codec import pack_texts
from triton_adapter.dialects import Dialect, TaskDecoder, choose_dialect
from triton_adapter.dialects.conversation import as_prompt, keeping_its_marks, listening
from triton_adapter.schema import EncodedTask, ModelSchema
from triton_adapter.settings import ModelOverride, TritonSettings
from triton_adapter.tasks.texts import Texts
from triton_adapter.transports.base import Traits
from triton_adapter.wire.request import Constant, WireRequest, check_parameters

_THE_TASKS_OWN = frozenset(
    {"job_id", "prompt", "messages", "timeout_s", "session_id", "traceparent", "tracestate", "baggage"}
)
"""Fields that say nothing of what the model is asked to do beside the prompt."""
_UNSHARED = (
    "prompt_token_ids", "prompt_images", "chat_template_kwargs", "continue_final_message", "return_token_ids",
    "logprobs", "response_format", "tools", "tool_choice",
)  # fmt: skip
"""Fields that make a task one of a kind when they say something."""
_LARGEST_SHAPE = 4096
"""Bytes of tensors, and characters of parameters and stop strings, that are kept beside the prompt."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What goes to the model for a task, and what reads its replies."""

    task: TaskRequest
    schema: ModelSchema
    encoded: EncodedTask
    decoder: TaskDecoder
    texts: Texts
    outputs: tuple[RequestedOutput, ...] = ()
    constant: Constant | None = None
    """What the request's message has in common with those of other tasks of its shape."""

    @property
    def streaming(self) -> bool:
        """Whether the model answers in a stream."""
        return self.encoded.streaming

    def request(self, remaining_s: float, traits: Traits) -> WireRequest:
        """Return the request, for a task that has so much time left, by a way of these traits."""
        task, schema, encoded = self.task, self.schema, self.encoded
        priority = queue_timeout_us = None
        scheduled = traits.schedules_streams or not encoded.streaming
        # Who asks for less than the most hurry is told where that cannot be had; the most is what everybody asks for.
        if schema.priority_levels and (scheduled or task.priority != "interactive"):
            priority = 1 if task.priority == "interactive" else schema.priority_levels
        if schema.allow_timeout_override and scheduled:
            queue_timeout_us = max(int(remaining_s * 1e6), 1)
        return WireRequest(
            task.model, encoded.inputs, task.model_version or "", task.job_id,
            self.outputs, encoded.parameters,
            priority=priority, queue_timeout_us=queue_timeout_us, empty_final_response=encoded.streaming,
            private=self.texts, schema=schema, constant=self.constant,
        )  # fmt: skip

    def answering(self) -> Asked:
        """Let go of what only sending needs. A prompt may be most of what a silent stream costs, and its tensors are as
        much once more."""
        self.texts.let_go()
        return Asked(self.schema, self.decoder, self.texts, self.streaming)

    def started(self, settings: TritonSettings, engine_version: str | None) -> Started:
        """Return the task's first event."""
        task = self.task
        return Started(
            job_id=task.job_id,
            engine="triton",
            engine_version=engine_version,
            model=task.model,
            model_version=task.model_version or self.schema.version,
            pool_id=settings.pool_id,
            replica_id=settings.replica_id,
            seed=task.seed,
        )


class Asked(msgspec.Struct, frozen=True):
    """What is left of a plan once the answer has begun, and nothing will be sent again."""

    schema: ModelSchema
    decoder: TaskDecoder
    texts: Texts
    streaming: bool


class Shape:
    """What tasks have in common that differ in their prompts only, on one model as it is declared now."""

    __slots__ = (
        "_after",
        "_before",
        "_capabilities",
        "_constant",
        "_decoder",
        "_dialect",
        "_name",
        "_outputs",
        "_override",
        "_parameters",
        "_place",
        "_requested",
        "_shape",
        "_streaming",
        "schema",
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        dialect: Dialect,
        decoder: TaskDecoder,
        override: ModelOverride,
        capabilities: frozenset[Capability],
    ) -> None:
        encoded, place = plan.encoded, plan.encoded.prompt
        assert place is not None
        self.schema = plan.schema
        self._override, self._capabilities = override, capabilities
        self._dialect = dialect
        # Piece by piece, and a decoder that has read nothing: nobody's prompt or answer is kept.
        self._place = place
        self._before, self._after = encoded.inputs[:place], encoded.inputs[place + 1 :]
        self._name, self._shape = encoded.inputs[place].name, encoded.inputs[place].shape
        self._parameters, self._outputs, self._streaming = encoded.parameters, encoded.outputs, encoded.streaming
        self._requested = plan.outputs
        self._decoder = decoder.again()
        # A queue's timeout is another one for each task.
        self._constant = None if plan.schema.allow_timeout_override else Constant(place)

    def given(self, task: TaskRequest) -> tuple[TaskRequest, str]:
        """Return a task of this shape as the model gets it, and its prompt; raises as `make_plan` does."""
        given = as_prompt(task, self._override, self._capabilities)
        return given, prompt_of(given)

    def plan(self, task: TaskRequest, given: TaskRequest, prompt: str) -> Plan:
        """Return the plan for a task of this shape; raises `UnicodeEncodeError` for half a character in its prompt."""
        tensor = Tensor(self._name, "BYTES", self._shape, pack_texts((prompt.encode(),)))
        inputs = (*self._before, tensor, *self._after)
        decoder = None if self._decoder is None else self._decoder.again()
        if decoder is None:
            decoder = self._dialect.decoder(given, self.schema)
        return Plan(
            task,
            self.schema,
            EncodedTask(inputs, self._parameters, self._outputs, self._streaming, self._place),
            # A task without messages has no tools, and its thoughts are text.
            decoder if task.messages is None else listening(decoder, task, given, self._override),
            Texts(task),
            self._requested,
            self._constant,
        )


def shape_key(task: TaskRequest) -> Hashable | None:
    """Return by what tasks of the same shape are known; `None` for one that shares its shape with no other."""
    if type(task) is not TaskRequest:
        return None
    fields = task.__dict__
    try:
        if fields["logprobs"] is not None or any(_unshared(fields)):
            return None
        if fields["prompt"] is None and (not task.messages or task.images):
            return None
        parameters = fields["parameters"]
        # 1, 1.0 and true are equal, and not the same to an engine.
        own = tuple([(name, value, type(value)) for name, value in parameters.items()]) if parameters else ()
        key = (_shaping(fields), own)
        hash(key)
    except (KeyError, TypeError):
        return None  # a field that was left out (`model_construct`), or one of a later version
    return key


_unshared = itemgetter(*_UNSHARED)
_shaping = itemgetter(*sorted({*TaskRequest.model_fields} - _THE_TASKS_OWN - {*_UNSHARED} - {"parameters"}))


def make_plan(task: TaskRequest, schema: ModelSchema, override: ModelOverride) -> tuple[Plan, Shape | None]:
    """Return the plan for a task on a model, and its shape if others may have the same.

    Raises:
        Unsupported: The model takes no text, or has no place for something the task asks for.
        InvalidRequest: The model needs something the task lacks, or a value or parameter does not fit.
    """
    choice = choose_dialect(schema, override)
    dialect = choice.dialect
    capabilities = dialect.capabilities(schema)
    given = keeping_its_marks(task, as_prompt(task, choice.override, capabilities), choice.override, dialect.name)
    if missing := sorted(given.needs_heed - capabilities):
        raise Unsupported(f"model {task.model!r} takes no {' and no '.join(missing)}")
    encoded = dialect.encode(given, schema)
    check_parameters(encoded.parameters)
    decoder = dialect.decoder(given, schema)
    # Of an ensemble all: Triton 2.51 fails one that also shows what its members pass on when that is not asked for.
    asked = () if schema.scheduling == "ensemble" else encoded.outputs
    plan = Plan(
        task, schema, encoded, listening(decoder, task, given, choice.override), Texts(task),
        tuple(map(RequestedOutput, asked)),
    )  # fmt: skip
    if not _may_be_kept(plan):
        return plan, None
    return plan, Shape(plan, dialect, decoder, choice.override, capabilities)


def _may_be_kept(plan: Plan) -> bool:
    task, encoded = plan.task, plan.encoded
    place = encoded.prompt
    if place is None or encoded.inputs[place].datatype != "BYTES":
        return False
    size = sum(len(tensor.data) for number, tensor in enumerate(encoded.inputs) if number != place)
    texts: list[Any] = [*task.stop, *task.parameters, *task.parameters.values(), *encoded.parameters.values()]
    return size + sum(len(text) for text in texts if isinstance(text, str)) <= _LARGEST_SHAPE
