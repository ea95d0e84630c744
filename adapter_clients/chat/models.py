"""Which model answers, and whether it can take what it is asked. Nothing is sent before that is known."""

from __future__ import annotations

import time
from collections.abc import Callable

from adapter_api import (
    Capability,
    EngineProps,
    InvalidRequest,
    ModelNotFound,
    ModelProps,
    TaskRequest,
    Unsupported,
    WorkerAdapter,
)

_BELIEVED_S = 30.0
_NAMED_AT_MOST = 20
_KNOWN_AT_MOST = 256

_LACKS = {
    Capability.IMAGES: "no images by value",
    Capability.IMAGE_URLS: "no images by URL",
    Capability.TOOLS: "no tools",
}
_ADVICE = {
    Capability.IMAGES: "ask without them, or a model that sees",
    Capability.IMAGE_URLS: "give the image itself in place of its URL, or ask a model that fetches images",
    Capability.TOOLS: "ask without them, or a model that calls tools",
}


class Models:
    """What is known of an engine's models; believed for a while."""

    def __init__(self, adapter: WorkerAdapter, clock: Callable[[], float] = time.monotonic) -> None:
        self._adapter = adapter
        self._clock = clock
        self._only: str | None = None
        self._known: dict[str, tuple[ModelProps, float]] = {}

    async def named(self, model: str | None) -> ModelProps:
        """Return what is known of `model`, or of the engine's only text model.

        Raises:
            ModelNotFound: There is none.
            InvalidRequest: No name was given, and there are several.
            AdapterError: The engine cannot be asked.
        """
        if model is None:
            model = self._only = self._only or await only_text_model(self._adapter, how="set `model`")
        known, until = self._known.get(model, (None, 0.0))
        if known is None or self._clock() >= until:
            try:
                known = await self._adapter.model_props(model)
            except ModelNotFound:
                self.forget(model)
                raise
            if len(self._known) >= _KNOWN_AT_MOST:
                self._known.clear()
            self._known[model] = known, self._clock() + _BELIEVED_S
        return known

    def forget(self, model: str) -> None:
        """Ask anew next time: it has just turned out otherwise."""
        self._known.pop(model, None)
        if self._only == model:
            self._only = None


async def only_text_model(adapter: WorkerAdapter, *, how: str) -> str:
    """Return the one model of the engine that takes text.

    Args:
        adapter: An open one.
        how: How one is chosen, for the message where there are several.

    Raises:
        ModelNotFound: There is none.
        InvalidRequest: There are several; the message names them.
    """
    props = await adapter.props()
    text = text_models(props)
    if len(text) == 1:
        return text[0]
    if text:
        raise InvalidRequest(f"which model? The engine has {_listed(text)}: {how}")
    others = _listed(sorted(model.name for model in props.models)) or "no model at all"
    raise ModelNotFound(f"the engine has no model that takes text, but {others}; if one does, {how}")


def text_models(props: EngineProps) -> list[str]:
    """Return the names of the models that take text, in order."""
    return sorted(m.name for m in props.models if m.capabilities & {Capability.TEXT, Capability.MESSAGES})


def require_fit(task: TaskRequest, props: ModelProps, *, earlier_images: bool) -> None:
    """Raise `Unsupported` for a task that asks for what its model is known not to have.

    Args:
        task: With the whole conversation.
        props: What is known of the model; one of which nothing is known may be capable of anything.
        earlier_images: Whether its images come from the conversation before, and not with the question.
    """
    if not props.capabilities | props.uncertain:
        return
    missing = task.needs - props.capabilities - props.uncertain - {Capability.MESSAGES}
    if Capability.TEXT not in props.capabilities and Capability.MESSAGES not in props.capabilities:
        raise Unsupported(f"model {task.model!r} takes no text: {props.dialect_reason or 'ask another'}")
    for capability in sorted(missing):
        what = _LACKS.get(capability, f"no `{capability}`")
        advice = _ADVICE.get(capability, "leave it out")
        if capability in (Capability.IMAGES, Capability.IMAGE_URLS) and earlier_images:
            what += ", and there is one in the history of this session"
            advice = "forget the conversation (`clear_history`), or ask a model that sees"
        raise Unsupported(f"model {task.model!r} takes {what}: {advice}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
