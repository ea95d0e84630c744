"""The tasks of the show."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from adapter_api import Capability, EngineProps, ModelNotFound, TaskRequest


@dataclass(frozen=True)
class Act:
    """One task; it is cancelled after `cancel_after` tokens, if that is given."""

    name: str
    task: TaskRequest
    cancel_after: int | None = None


# Name, prompt, tokens. The first two share prompt and seed, and so must share their text.
_PROMPTS = (
    ("twin one", "The import statement", 280),
    ("twin two", "The import statement", 280),
    ("classes", "A class definition", 320),
    ("exceptions", "Exceptions are a means of", 360),
    ("to cancel", "The for statement is used to", 1000),
    ("loops", "The while statement is used for", 400),
)
_TWINS = 2
_CANCELLED = "to cancel"
_CANCEL_AFTER = 160


def acts_for(props: EngineProps, among: Collection[str] = ()) -> list[Act]:
    """Return the tasks for an engine's language models: those that take a seed, or else all that take text; of those
    `among` which the engine says they are, if it says so.

    Raises:
        ModelNotFound: No model takes text.
    """
    text = [
        model for model in props.models if Capability.TEXT in model.capabilities and (not among or model.name in among)
    ]
    models = [model.name for model in text if Capability.SEED in model.capabilities] or [m.name for m in text]
    if not models:
        raise ModelNotFound("the engine has no model that takes text, so there is nothing to show")
    return [
        Act(
            name,
            TaskRequest(
                model=_model_of(name, index, models),
                prompt=prompt,
                max_tokens=tokens,
                temperature=0.8,
                seed=7 if index < _TWINS else index,
            ),
            cancel_after=_CANCEL_AFTER if name == _CANCELLED else None,
        )
        for index, (name, prompt, tokens) in enumerate(_PROMPTS)
    ]


def _model_of(name: str, index: int, models: list[str]) -> str:
    if index < _TWINS:
        return models[0]
    # The last one, however many there are: the first may be one that soon has no more to say.
    return models[-1] if name == _CANCELLED else models[(index - 1) % len(models)]
