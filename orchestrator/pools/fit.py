"""How a model takes a task. Pools that serve one model may differ in it, and so may the replicas of a pool. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapter_api import Capability, ModelProps, TaskRequest, Unsupported
from adapter_kit.chat_template import Template
from orchestrator.config.settings import PoolSettings
from orchestrator.pools.prompts import Prompts

TemplateReader = Callable[[str | Path | None, Mapping[str, Any]], Template]
"""Makes a template of what a pool's settings say."""


def fit(
    task: TaskRequest, props: ModelProps | None, pool: PoolSettings, template: Template | None, prompts: Prompts
) -> TaskRequest:
    """Return the task as the model takes it: its messages as one prompt, by the pool's template, where need be.

    A template that the settings name is used for every model that takes text; without one it is only for models that
    take no messages. Images go beside the prompt, which has the template's marks in their places.

    Raises:
        InvalidRequest: The template refuses the messages.
        Unmade: The prompt is still to be made, beside the event loop.
        Unsupported: There is something among them that it has no place for, or an image, and the model takes text only.
    """
    if task.messages is None or template is None or props is None or Capability.TEXT not in props.capabilities:
        return task
    if Capability.MESSAGES in props.capabilities and pool.chat_template is None:
        return task
    missing = (task.needs & _IMAGES) - props.capabilities - props.uncertain
    if missing and _IMAGES.isdisjoint(props.capabilities | props.uncertain):
        raise Unsupported(f"model {task.model!r} takes text only, and the messages have an image")
    if missing:
        form = "by value, not by URL" if Capability.IMAGE_URLS in missing else "by URL, not by value"
        raise Unsupported(f"model {task.model!r} takes images {form}")
    return task.model_copy(
        update={
            "messages": None,
            "prompt": prompts.by(template),
            "prompt_images": task.images,
            # These are in the prompt now.
            "tools": (),
            "tool_choice": None,
            "chat_template_kwargs": _NOTHING,
        }
    )


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_IMAGES = frozenset({Capability.IMAGES, Capability.IMAGE_URLS})
