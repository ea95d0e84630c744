"""What a request of Dynamo for tensors asks for, as an inference. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import InferRequest, InvalidRequest, RequestedOutput, Sequence
from adapter_api.bounds import MAX_PARAMETERS, MAX_TENSORS, MAX_TIMEOUT_S
from dynamo_worker.values import tensors_in

_EMPTY_FINAL = "triton_enable_empty_final_response"


class Asked(msgspec.Struct, frozen=True):
    """A request: the inference, what the client calls it, and how the answer is to look."""

    inference: InferRequest
    id: str | None
    outputs: tuple[str, ...]
    empty_final: bool
    """Whether the client wants to be told the end, by an answer without outputs if need be."""


def parse_inference(
    given: Mapping[str, Any], *, model: str, versions: tuple[str, ...], trace: Mapping[str, str]
) -> Asked:
    """Return what a request asks for; raises `InvalidRequest`.

    Dynamo's frontend applies none of `priority`, `timeout` (microseconds) and the sequence flags: they are the
    worker's. It hands the model version to no worker; one that comes all the same is checked.

    Args:
        given: As the frontend hands it over.
        model: The engine's name of the model.
        versions: Its versions; none where the engine does not tell.
        trace: The headers of its trace.
    """
    parameters = _parameters(given.get("parameters"), "parameters")
    sequence = priority = timeout_us = None
    empty_final = False
    if parameters:  # most requests have none
        sequence, priority = _sequence(parameters), _whole(parameters, "priority")
        timeout_us = _whole(parameters, "timeout")
        empty_final = parameters.pop(_EMPTY_FINAL, False) is True
    version = given.get("model_version") or None
    if version is not None and versions and version not in versions:
        raise InvalidRequest(f"model {model!r} has no version {version!r}; there are: {', '.join(versions)}")
    outputs = _outputs(given.get("outputs"))
    name = given.get("id") or None
    named = {} if name is None else {"request_id": name}
    inference = InferRequest(
        model=model,
        model_version=version,
        inputs=tensors_in(given.get("tensors")),
        outputs=outputs,
        sequence=sequence,
        priority=priority or None,
        timeout_s=min(timeout_us / 1e6, MAX_TIMEOUT_S) if timeout_us else None,
        parameters=parameters,
        traceparent=trace.get("traceparent"),
        tracestate=trace.get("tracestate"),
        **named,
    )
    return Asked(inference, name, tuple(output.name for output in outputs), empty_final)


def _parameters(given: Any, what: str) -> dict[str, Any]:
    """Return parameters without the tags of their types."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or len(given) > MAX_PARAMETERS:
        raise InvalidRequest(f"{what} must be an object of at most {MAX_PARAMETERS} values")
    found = {}
    for name, value in given.items():
        if not isinstance(value, Mapping) or len(value) != 1:
            raise InvalidRequest(f"{what}: {name!r} must have one value, under its type")
        found[name] = next(iter(value.values()))
    return found


def _whole(parameters: dict[str, Any], name: str) -> int | None:
    value = parameters.pop(name, None)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"parameter {name!r} must be a whole number that is not negative")
    return value


def _sequence(parameters: dict[str, Any]) -> Sequence | None:
    id = parameters.pop("sequence_id", None)
    start, end = (parameters.pop(name, False) is True for name in ("sequence_start", "sequence_end"))
    if not id:
        return None
    if not isinstance(id, int | str) or isinstance(id, bool):
        raise InvalidRequest("parameter 'sequence_id' must be a whole number or a text")
    return Sequence(id=id, start=start, end=end)


def _outputs(given: Any) -> tuple[RequestedOutput, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MAX_TENSORS:
        raise InvalidRequest(f"'outputs' must be a list of at most {MAX_TENSORS}")
    found = []
    for each in given:
        name = each.get("name") if isinstance(each, Mapping) else None
        if not isinstance(name, str) or not name:
            raise InvalidRequest("each of 'outputs' must have a name")
        parameters = _parameters(each.get("parameters"), f"parameters of output {name!r}")
        found.append(RequestedOutput(name, _whole(parameters, "classification") or 0))
    return tuple(found)
