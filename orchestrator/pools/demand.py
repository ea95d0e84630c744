"""What a piece of work asks of the replica that runs it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from adapter_api import Capability, ModelProps, TaskRequest, Unsupported
from adapter_kit.chat_template import Template
from adapter_kit.told_apart import calls_told, thoughts_by
from adapter_kit.tool_choice import must_call
from orchestrator.config.settings import PoolSettings

_BY_TEMPLATE = frozenset({
    Capability.MESSAGES, Capability.TOOLS, Capability.CHAT_TEMPLATE_KWARGS, Capability.CONTINUE_FINAL_MESSAGE,
})  # fmt: skip
"""What a chat template of the host may give to a model that takes text."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """A model, and what it has to be capable of. Work of the same demand can go to the same replicas."""

    model: str
    model_version: str | None = None
    needs: frozenset[Capability] = frozenset()
    must_call: bool = False
    """Whether the model has to call a tool."""
    max_tokens: int | None = None

    @classmethod
    def of(cls, task: TaskRequest) -> Self:
        needs = task.needs - {Capability.TOOLS} if task.tool_choice == "none" else task.needs
        return cls(
            model=task.model,
            model_version=task.model_version,
            needs=needs,
            must_call=must_call(task),
            max_tokens=task.max_tokens,
        )

    def unmet(
        self, props: ModelProps | None, template: Template | None = None, most: frozenset[Capability] = frozenset()
    ) -> tuple[str, ...]:
        """Return what a model is known not to be capable of; nothing where nothing is known of it.

        Args:
            props: What the engine told of the model.
            template: What makes a prompt of messages for it.
            most: All that the adapter can do with any engine; empty where that is not told.
        """
        if props is not None and props.max_tokens is None and self.needs <= props.capabilities:
            return ()  # as nearly always, and it is asked several times per task
        if props is None or not props.capabilities | props.uncertain:
            lacking = self.needs - most - _BY_TEMPLATE if most else frozenset()
        else:
            lacking = self._needs(props, template) - props.capabilities - props.uncertain
        words = [each.value for each in sorted(lacking)]
        if props is not None and None not in (self.max_tokens, props.max_tokens):
            if self.max_tokens > props.max_tokens:  # type: ignore[operator]
                words.append(f"more than {props.max_tokens} max_tokens")
        return tuple(words)

    def is_doubtful(self, props: ModelProps | None) -> bool:
        """Whether nobody can tell before it is tried if a model is capable of it."""
        return props is not None and bool(self.needs & (props.uncertain - props.capabilities))

    def _needs(self, props: ModelProps, template: Template | None) -> frozenset[Capability]:
        needs = self.needs
        if Capability.MESSAGES not in needs or Capability.TEXT not in props.capabilities:
            return needs
        if Capability.MESSAGES not in props.capabilities:
            needs -= {Capability.MESSAGES}  # a template makes them text
        if template is not None:
            if template.takes_tools and Capability.TOOLS in needs:
                needs -= {Capability.TOOLS}
                needs |= {Capability.RESPONSE_FORMAT} if self.must_call else set()
            needs -= {Capability.CHAT_TEMPLATE_KWARGS} if template.takes_variables else set()
            needs -= {Capability.CONTINUE_FINAL_MESSAGE}
        return needs


def offered(props: ModelProps, pool: PoolSettings, template: Template | None) -> ModelProps:
    """Return what a model can do with what its pool does for it: messages, tools and thoughts by way of its text."""
    if Capability.TEXT not in props.capabilities:
        return props
    calls = template is not None and template.takes_tools
    having = {
        Capability.MESSAGES: True,
        Capability.TOOLS: calls and calls_told(pool.tool_parser, template).name is not None,
        Capability.REASONING: thoughts_by(pool.reasoning_parser, template) is not None,
        Capability.CHAT_TEMPLATE_KWARGS: template is not None and template.takes_variables,
        Capability.CONTINUE_FINAL_MESSAGE: template is not None,
    }
    capabilities = props.capabilities | {capability for capability, has in having.items() if has}
    # Tools are taken all the same where nobody reads the calls; they are text then.
    uncertain = props.uncertain | ({Capability.TOOLS} if calls else frozenset())
    return msgspec.structs.replace(props, capabilities=capabilities, uncertain=uncertain - capabilities)


def takes_no(lacking: Sequence[str], whom: str) -> str:
    """Return a few words about what somebody is not capable of."""
    return f"{whom} takes no {' and no '.join(lacking)}"


def unsupported(pool: PoolSettings, demand: Demand, lacking: Mapping[str, Sequence[str]]) -> Unsupported:
    """Return the error of a demand that no replica of a pool can meet; `lacking` says what each is not capable of."""
    remedy = _remedy(pool, lacking)
    if len(set(lacking.values())) == 1:
        said = takes_no(next(iter(lacking.values())), f"model {demand.model!r}")
        return Unsupported(f"{said} on any replica of pool {pool.id!r}{remedy}")
    each = "; ".join(takes_no(words, replica_id) for replica_id, words in lacking.items())
    said = f"no replica of pool {pool.id!r} can do all that this asks of model {demand.model!r}: {each}"
    return Unsupported(f"{said}{remedy}")


def _remedy(pool: PoolSettings, lacking: Mapping[str, Sequence[str]]) -> str:
    """Return what would give a pool's models that take text the tools that they lack; empty where they lack none."""
    if not any("tools" in words and "messages" not in words for words in lacking.values()):
        return ""
    if pool.chat_template is None:
        return "; a chat_template of the pool that has a place for tools gives it them"
    return "; the pool's chat_template has no place for them"
