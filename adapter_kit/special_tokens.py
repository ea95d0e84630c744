"""Marks of calls and thoughts that are tokens of their own, which engines leave out of their text unless they are asked
for them. A task is made to ask for them where its engine is known to take that. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapter_api import TaskRequest
from adapter_api.task import ParameterValue
from adapter_kit.answers import CallsBy, ThoughtsBy
from adapter_kit.chat_template import Template
from adapter_kit.told_apart import calls_told, thoughts_by
from adapter_kit.tool_calls import BY_NAME
from adapter_kit.tool_choice import must_call

_KEPT_BY: Mapping[str, tuple[str, ParameterValue]] = {"vllm": ("skip_special_tokens", False)}
"""The parameter, and its value, that makes an engine keep them, by the dialect of its models."""


def keeping_marks(
    task: TaskRequest,
    given: TaskRequest,
    *,
    namespace: str,
    dialect: str | None,
    calls: CallsBy,
    thoughts: ThoughtsBy,
    template: Template | None,
) -> TaskRequest:
    """Return `given`, asking for the marks that the reader of its answer needs; as it is where it says itself whether
    it wants them, where it needs none, and where nobody knows that the engine takes that.

    Args:
        task: As it came.
        given: As the engine gets it, with a prompt that was made of its messages.
        namespace: That of the parameters of the adapter that runs it.
        dialect: That of the model, as `ModelProps` has it.
        calls: How the model writes its calls.
        thoughts: And its thoughts.
        template: The chat template that made the prompt, for `auto`.
    """
    kept_by = None if dialect is None else _KEPT_BY.get(dialect)
    if task.messages is None or given.messages is not None or kept_by is None:
        return given
    name, value = kept_by
    name = f"{namespace}.{name}"
    if name in given.parameters or not _needed(task, calls, thoughts, template):
        return given
    return given.model_copy(update={"parameters": MappingProxyType({**given.parameters, name: value})})


def _needed(task: TaskRequest, calls: CallsBy, thoughts: ThoughtsBy, template: Template | None) -> bool:
    how = thoughts_by(thoughts, template)
    if how is not None and how.special:
        return True
    if not task.tools or task.tool_choice == "none" or must_call(task):
        return False
    grammar = calls_told(calls, template).name
    return grammar is not None and BY_NAME[grammar].special
