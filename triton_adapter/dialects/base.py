"""What a dialect is: how one family of models takes a task, and how it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from adapter_api import Capability, End, TaskRequest, TokenEvent
from triton_adapter.schema import EncodedTask, ModelSchema, Reply, Run


class TaskDecoder(Protocol):
    """Reads the replies to one task, in order. Errors of the engine (`Reply.error`) are the caller's business."""

    @property
    def done(self) -> bool:
        """True once a stop string was met: call `finish`, and cancel the engine if it still generates."""

    def again(self) -> TaskDecoder | None:
        """Return a new one for another task that differs in its prompt only; `None`: the dialect has to make it."""

    def feed(self, reply: Reply, events: list[Any]) -> None:
        """Append what the reply adds to `events`: often one `Token`, often nothing.

        Raises:
            ProtocolViolation: The reply is not what the model declares.
        """

    def feed_run(self, run: Run, events: list[Any]) -> None:
        """Append what messages add to `events` that are like the last reply that was fed, but for their texts."""

    def finish(self) -> tuple[Sequence[TokenEvent], End]:
        """Return what was held back, and how the task ended. Call it once, after the last reply or once `done`.

        Raises:
            EngineFailed: The engine says that it gave up on the text, or ends it with a word that is no success.
            ProtocolViolation: What it counts is no number.
        """


class Dialect(Protocol):
    """Speaks one family's tensors. Stateless between tasks, so one serves any number at once."""

    @property
    def name(self) -> str: ...

    def capabilities(self, schema: ModelSchema) -> frozenset[Capability]:
        """Return what the model, as it declares itself, can do with a task."""

    def uncertain(self, schema: ModelSchema) -> frozenset[Capability]:
        """Return what only a try can tell, because the model declares the same whether it can or not."""

    def encode(self, task: TaskRequest, schema: ModelSchema) -> EncodedTask:
        """Return the task in the model's tensors: declared inputs only, in their declared datatypes and shapes.

        Raises:
            Unsupported: The model has no place for something the task asks for; the message names it.
            InvalidRequest: The model needs something the task lacks, or a value does not fit.
        """

    def decoder(self, task: TaskRequest, schema: ModelSchema) -> TaskDecoder:
        """Return a new decoder for the replies to `encode(task, schema)`."""
