"""Triton's `generate` for a model that takes text and declares no tensors: `text_input` there, `text_output` back, as
Triton's own language models have them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from adapter_api import InvalidRequest, Started, TaskRequest, Token, TokenEvent
from orchestrator.http.kserve_fields import LONGEST_NAME, mapping_of, text_of
from orchestrator.http.reading import parse_object

_ALIKE = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "seed", "stop", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "priority", "session_id", "timeout_s",
)  # fmt: skip
"""What means here what it means in a task."""
_CALLED_OTHERWISE = {"stop_words": "stop", "random_seed": "seed"}
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "stream": (True, False), "streaming": (True, False), "exclude_input_in_output": (True,),
    "exclude_input_from_output": (True,), "bad_words": ("", []), "ignore_eos": (False,),
}  # fmt: skip
"""What asks for nothing that is not so anyway: the path says whether the answer streams."""


def task_of(fields: Mapping[str, Any], model: str, version: str | None) -> tuple[TaskRequest, str]:
    """Return the task that a body's fields ask for, and the `id` that its answers have; raises `InvalidRequest`.

    Sampling may stand at the top, in `parameters`, or in `sampling_parameters`, which is an object or one as JSON text.
    """
    said = dict(fields)
    id = text_of(said, "id")
    prompt = _only(said.pop("text_input", None))
    if not isinstance(prompt, str):
        raise InvalidRequest("'text_input' must be a text")
    sampling = said.pop("sampling_parameters", None)
    if isinstance(sampling, str):
        sampling = parse_object(sampling.encode("utf-8", "replace"), "'sampling_parameters'") if sampling else {}
    asked: dict[str, Any] = {}
    for given in (
        mapping_of(sampling, "'sampling_parameters'"), mapping_of(said.pop("parameters", None), "parameters"), said,
    ):  # fmt: skip
        for name, value in given.items():
            _take(name, _only(value) if name not in ("stop", "stop_words") else value, asked)
    return TaskRequest.parse({**asked, "model": model, "model_version": version, "prompt": prompt}), id


def text_of_events(events: Iterable[TokenEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


def version_in(events: Iterable[TokenEvent]) -> str:
    """Return the version that runs a task, as its `started` tells it; empty when it does not."""
    return next((event.model_version or "" for event in events if isinstance(event, Started)), "")


def flat_text(model: str, version: str, text: str, id: str) -> bytes:
    """Return a piece of the answer, or all of it, as one JSON object."""
    said = {"id": id} if id else {}
    return msgspec.json.encode(said | {"model_name": model, "model_version": version, "text_output": text})


def _take(name: str, value: Any, asked: dict[str, Any]) -> None:
    if value is None or (name in _NEUTRAL and any(value == each for each in _NEUTRAL[name])):
        return
    task_field = _CALLED_OTHERWISE.get(name, name)
    if task_field not in _ALIKE:
        raise InvalidRequest(
            f"{name[:LONGEST_NAME]!r} cannot be honoured: this model takes 'text_input' and {', '.join(_ALIKE)}"
        )
    asked[task_field] = [value] if task_field == "stop" and isinstance(value, str) else value


def _only(value: Any) -> Any:
    """Return the one value of a list of one: tensors are lists, and so some programs send all that they send."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
