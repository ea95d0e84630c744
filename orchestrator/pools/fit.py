"""How a model takes a task. Pools that serve one model may differ in it, and so may the replicas of a pool. No I/O."""

from __future__ import annotations

from typing import Protocol

from adapter_api import Capability, ModelProps, TaskRequest
from orchestrator.config.settings import PoolSettings


class Template(Protocol):
    """Makes one prompt of messages; `chat_template.ChatTemplate` is one."""

    def render(self, task: TaskRequest) -> str:
        """Return the prompt; raises `InvalidRequest` or `Unsupported` when the messages cannot be one."""
        ...


def suits(task: TaskRequest, props: ModelProps | None) -> bool:
    """Return whether a model is known to be capable of the task; true also when nothing is known of the model."""
    if props is None:
        return True
    if task.max_tokens is not None and props.max_tokens is not None and task.max_tokens > props.max_tokens:
        return False
    return not props.capabilities or _needs(task, props) <= props.capabilities | props.uncertain


def fit(task: TaskRequest, props: ModelProps | None, pool: PoolSettings, template: Template | None) -> TaskRequest:
    """Return the task as the model takes it: its messages as one prompt, by the pool's template, where need be.

    A template that the settings name is used for every model that takes text; without one it is only for models that
    take no messages. Messages with an image stay messages where the model takes them.

    Raises:
        InvalidRequest: The template refuses the messages.
        Unsupported: There is an image among them, and the model takes text only.
    """
    if task.messages is None or template is None or props is None or Capability.TEXT not in props.capabilities:
        return task
    if Capability.MESSAGES in props.capabilities and (pool.chat_template is None or task.images):
        return task
    return task.model_copy(update={"messages": None, "prompt": template.render(task)})


def _needs(task: TaskRequest, props: ModelProps) -> frozenset[Capability]:
    needs = task.needs
    if Capability.MESSAGES not in props.capabilities and Capability.TEXT in props.capabilities:
        needs -= {Capability.MESSAGES}  # a template makes them text
    return needs
