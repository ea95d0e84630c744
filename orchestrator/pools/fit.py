"""How a model takes a task. Pools that serve one model may differ in it, and so may the replicas of a pool. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapter_api import Capability, ModelProps, TaskRequest, Unsupported
from adapter_kit.answers import as_one_text
from adapter_kit.chat_template import Template
from adapter_kit.tool_choice import must_call
from orchestrator.config.settings import PoolSettings
from orchestrator.pools.prompts import Prompts

ANY_ENGINE = "engine"
"""The namespace of parameters that go to whichever engine runs a task, which refuses what it does not have."""
TemplateReader = Callable[[str | Path | None, Mapping[str, Any]], Template]
"""Makes a template of what a pool's settings say."""


def fit(
    task: TaskRequest, props: ModelProps | None, pool: PoolSettings, template: Template | None, prompts: Prompts
) -> TaskRequest:
    """Return the task as the model takes it: its messages as one prompt, by the pool's template, where need be.

    A template that the settings name is used for every model that takes text; without one it is only for models that
    take no messages. Images go beside the prompt, which has the template's marks in their places.

    Raises:
        InvalidRequest: The template refuses the messages; or they are to call a tool that there is not.
        Unmade: The prompt is still to be made, beside the event loop.
        Unsupported: There is something among them that it has no place for, or an image, and the model takes text only.
    """
    if task.max_tokens is None and pool.default_max_tokens is not None:
        most = pool.default_max_tokens if props is None or props.max_tokens is None else props.max_tokens
        task = task.model_copy(update={"max_tokens": min(most, pool.default_max_tokens)})
    as_messages = (
        task.messages is None
        or template is None
        or props is None
        or Capability.TEXT not in props.capabilities
        or (Capability.MESSAGES in props.capabilities and pool.chat_template is None)
    )
    if task.tools and task.tool_choice == "none" and not (as_messages and _takes_tools(props)):
        task = task.model_copy(update={"tools": (), "tool_choice": None})
    if as_messages:
        return task
    assert template is not None
    assert props is not None
    missing = (task.needs & _IMAGES) - props.capabilities - props.uncertain
    if missing and _IMAGES.isdisjoint(props.capabilities | props.uncertain):
        raise Unsupported(f"model {task.model!r} takes text only, and the messages have an image")
    if missing:
        form = "by value, not by URL" if Capability.IMAGE_URLS in missing else "by URL, not by value"
        raise Unsupported(f"model {task.model!r} takes images {form}")
    if (
        must_call(task)
        and template.takes_tools
        and Capability.RESPONSE_FORMAT not in props.capabilities | props.uncertain
    ):
        raise Unsupported(
            f"model {task.model!r} cannot be made to call a tool, for its engine takes no response_format: leave "
            "tool_choice out, or let it be 'auto'"
        )
    return as_one_text(task, prompts.by(template))


def named_for(task: TaskRequest, adapter: str) -> TaskRequest:
    """Return the task with the parameters that are for any engine as the adapter of that name looks for them."""
    if not task.parameters:
        return task
    prefix = f"{ANY_ENGINE}."
    if not any(key.startswith(prefix) for key in task.parameters):
        return task
    named: dict[str, Any] = {}
    for key, value in task.parameters.items():
        named[f"{adapter}.{key[len(prefix) :]}" if key.startswith(prefix) else key] = value
    return task.model_copy(update={"parameters": MappingProxyType(named)})


def _takes_tools(props: ModelProps | None) -> bool:
    """Return whether the engine shows its model tools that are not to be called, as it sees fit."""
    return props is not None and Capability.TOOLS in props.capabilities


_IMAGES = frozenset({Capability.IMAGES, Capability.IMAGE_URLS})
