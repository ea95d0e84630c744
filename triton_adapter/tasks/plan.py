"""A text task in one model's own terms."""

from __future__ import annotations

import msgspec

from adapter_api import RequestedOutput, Started, TaskRequest
from triton_adapter.dialects import TaskDecoder, choose_dialect
from triton_adapter.dialects.conversation import as_prompt, listening
from triton_adapter.schema import EncodedTask, ModelSchema
from triton_adapter.settings import ModelOverride, TritonSettings
from triton_adapter.transports.base import Traits
from triton_adapter.wire.request import WireRequest, check_parameters


class Plan(msgspec.Struct, frozen=True):
    """What goes to the model for a task, and what reads its replies."""

    task: TaskRequest
    schema: ModelSchema
    encoded: EncodedTask
    decoder: TaskDecoder

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
            self._outputs(), encoded.parameters,
            priority=priority, queue_timeout_us=queue_timeout_us, empty_final_response=encoded.streaming,
            private=self.private, schema=schema,
        )  # fmt: skip

    def _outputs(self) -> tuple[RequestedOutput, ...]:
        # Of an ensemble all: Triton 2.51 fails one that also shows what its members pass on when that is not asked for.
        asked = () if self.schema.scheduling == "ensemble" else self.encoded.outputs
        return tuple(RequestedOutput(name) for name in asked)

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

    def private(self) -> list[str]:
        """Return the task's texts, which no message may quote."""
        task = self.task
        if task.prompt is not None:
            return [task.prompt]
        calls = (call.arguments for message in task.messages or () for call in message.tool_calls)
        return [*(message.text for message in task.messages or ()), *calls]

    def quotable(self) -> list[str]:
        """Return other texts of the task: an engine that quotes one must not be taken at the client's word."""
        task = self.task
        texts = [*task.stop, *task.parameters_for("triton")]
        texts += [value for value in task.parameters.values() if isinstance(value, str)]
        wanted = task.response_format
        if wanted is not None:
            texts += [text for text in (wanted.regex, wanted.grammar) if text is not None]
        return texts


def make_plan(task: TaskRequest, schema: ModelSchema, override: ModelOverride) -> Plan:
    """Return the plan for a task on a model.

    Raises:
        Unsupported: The model takes no text, or has no place for something the task asks for.
        InvalidRequest: The model needs something the task lacks, or a value or parameter does not fit.
    """
    choice = choose_dialect(schema, override)
    dialect = choice.dialect
    given = as_prompt(task, choice.override, dialect.capabilities(schema))
    encoded = dialect.encode(given, schema)
    check_parameters(encoded.parameters)
    return Plan(task, schema, encoded, listening(dialect.decoder(given, schema), task, given, choice.override))
