"""What is registered of a model: its tensors, its configuration, whether it takes text. No I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from adapter_api import Capability, ModelProps, TensorSpec
from dynamo_worker.values import name_of

_UNSAFE = re.compile(r"[^a-z0-9_-]+")


@runtime_checkable
class TellsConfig(Protocol):
    """An adapter that knows a model's configuration as the v2 protocol's message.

    Optional: an adapter that has the method needs nothing of this package. Dynamo's frontend answers `ModelConfig` of
    a model whose adapter has none with what it makes of the tensors alone.
    """

    async def serialized_config(self, model: str) -> bytes | None:
        """Return the model's `inference.ModelConfig`, serialized; `None` where the engine tells none."""


def takes_tensors(model: ModelProps) -> bool:
    return Capability.TENSORS in model.capabilities


def takes_text(model: ModelProps) -> bool:
    """Whether chats and completions can be asked of it: templates or prompts are the adapter's business."""
    return bool({Capability.TEXT, Capability.MESSAGES} & model.capabilities)


def faces_of(model: ModelProps) -> tuple[bool, bool]:
    """Return whether a text model takes chats, and completions."""
    return Capability.MESSAGES in model.capabilities, Capability.TEXT in model.capabilities


def endpoint_name(model: str, kind: str) -> str:
    """Return the name of a model's endpoint: the same in every worker, and another for every other model."""
    slug = _UNSAFE.sub("-", model.lower()).strip("-")[:60] or "model"
    mark = "" if slug == model else "-" + hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{slug}{mark}-{kind}"


def tensor_config(model: ModelProps, serialized: bytes | None) -> dict[str, Any]:
    """Return what Dynamo calls `tensor_model_config`.

    With a `serialized` configuration its frontend answers ModelConfig and ModelMetadata as the engine would.
    """
    config: dict[str, Any] = {"name": model.name, "inputs": _specs(model.inputs), "outputs": _specs(model.outputs)}
    return config if serialized is None else {**config, "triton_model_config": list(serialized)}


def _specs(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    found = []
    for spec in specs:
        kind = name_of(spec.datatype)
        if kind is not None:
            found.append({"name": spec.name, "data_type": kind, "shape": list(spec.shape), "parameters": {}})
    return found


def differs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether another worker's model takes or returns other tensors than ours.

    How many instances it has, and where they run, may differ from one machine to the next. A card that lists no tensors
    is not compared.
    """
    return bool(theirs.get("inputs") or theirs.get("outputs")) and _essence(ours) != _essence(theirs)


def _essence(config: Mapping[str, Any]) -> Any:
    return [
        sorted((str(spec.get("name")), str(spec.get("data_type")), tuple(spec.get("shape") or ())) for spec in specs)
        for specs in (config.get("inputs") or (), config.get("outputs") or ())
    ]
