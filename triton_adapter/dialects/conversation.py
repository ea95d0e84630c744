"""A conversation with a model of one text, by a chat template of the adapter's own: what its messages become, and what
its text becomes.

A dialect never sees the messages of such a task: it gets a prompt. The reader of the answer takes the tool calls and
the thoughts out of the events that the dialect's decoder tells.
"""

from __future__ import annotations

from typing import Any

from adapter_api import Capability, End, TaskRequest, TokenEvent, Unsupported
from adapter_kit.answers import AnswerReader, as_one_text, reader_for
from adapter_kit.special_tokens import keeping_marks
from adapter_kit.told_apart import calls_told, thoughts_by
from adapter_kit.tool_choice import must_call
from triton_adapter.dialects.base import TaskDecoder
from triton_adapter.schema import Reply, Run
from triton_adapter.settings import ModelOverride


def capabilities_of(override: ModelOverride) -> frozenset[Capability]:
    """Return what the settings of a model add to what its dialect can do."""
    template = override.template
    calls = calls_told(override.tool_parser, template).name is not None
    having = {
        Capability.CHAT_TEMPLATE_KWARGS: template.takes_variables,
        Capability.TOOLS: template.takes_tools and calls,
        Capability.REASONING: thoughts_by(override.reasoning_parser, template) is not None,
    }
    return frozenset(capability for capability, has in having.items() if has)


def as_prompt(task: TaskRequest, override: ModelOverride, capabilities: frozenset[Capability]) -> TaskRequest:
    """Return the task with a prompt in place of its messages, where the settings have a chat template.

    Args:
        task: Whatever came.
        override: The settings of its model.
        capabilities: What the model's dialect can do.

    Raises:
        InvalidRequest: The template refuses the messages; or what is to be called is no tool there is.
        Unsupported: There is something among them that it has no place for; or a tool has to be called, and nothing
            can make the model do it; or tools are there, and the settings leave their calls in the text.
    """
    if task.messages is None or override.chat_template is None:
        return task
    if task.tools and task.tool_choice != "none" and override.template.takes_tools:
        told = calls_told(override.tool_parser, override.template)
        if told.name is None:
            raise Unsupported(
                f"model {task.model!r} takes no `tools`, for nobody tells its calls from its text: "
                f"`models.{task.model}.tool_parser` is {override.tool_parser!r}, and {told.why}; set it to what "
                "the model writes"
            )
    if not must_call(task):
        return as_one_text(task, override.template.render(task))
    if Capability.RESPONSE_FORMAT not in capabilities:
        raise Unsupported(
            f"model {task.model!r} cannot be made to call a tool, for it takes no response_format: leave `tool_choice` "
            "out, or let it be 'auto'"
        )
    # That a tool has to be called is not the template's to say: the format of the answer is.
    return as_one_text(task, override.template.render(task.model_copy(update={"tool_choice": None})))


def keeping_its_marks(task: TaskRequest, given: TaskRequest, override: ModelOverride, dialect: str) -> TaskRequest:
    """Return the task as its model gets it, asking for the marks by which calls and thoughts are told."""
    if task.messages is None or override.chat_template is None:
        return given
    return keeping_marks(
        task,
        given,
        namespace="triton",
        dialect=dialect,
        calls=override.tool_parser,
        thoughts=override.reasoning_parser,
        template=override.template,
    )


def listening(decoder: TaskDecoder, task: TaskRequest, given: TaskRequest, override: ModelOverride) -> TaskDecoder:
    """Return the decoder of a task that its model got as `given`, telling calls and thoughts from the text."""
    reader = reader_for(
        task,
        # The plain layout has no place for tools, and thoughts that it did not begin are told by their first mark.
        given.prompt if given.messages is None else None,
        calls=override.tool_parser,
        thoughts=override.reasoning_parser,
        template=override.template,
    )
    return decoder if reader is None else _Listening(decoder, reader)


class _Listening:
    """A `TaskDecoder` whose events an `AnswerReader` has read."""

    def __init__(self, decoder: TaskDecoder, reader: AnswerReader) -> None:
        self._decoder = decoder
        self._reader = reader

    @property
    def done(self) -> bool:
        return self._decoder.done

    def again(self) -> None:
        return None

    def feed(self, reply: Reply, events: list[Any]) -> None:
        found: list[TokenEvent] = []
        self._decoder.feed(reply, found)
        if found:
            events += self._reader.read(found)

    def feed_run(self, run: Run, events: list[Any]) -> None:
        found: list[TokenEvent] = []
        self._decoder.feed_run(run, found)
        if found:
            events += self._reader.read(found)

    def finish(self) -> tuple[list[TokenEvent], End]:
        held, end = self._decoder.finish()
        *events, last = self._reader.read([*held, end])
        assert isinstance(last, End)
        return events, last
