"""The flat form of Triton's `generate`: one object whose keys are the model's own tensors. No I/O.

What it says of shapes is what Triton makes of it
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, cast

import msgspec
import numpy as np

from adapter_api import Datatype, InferRequest, InferResponse, InvalidRequest, Tensor, TensorSpec
from adapter_api.bounds import MAX_TENSORS
from orchestrator.http.json_bounds import require_bounded
from orchestrator.http.kserve_codec import NUMPY, json_data
from orchestrator.http.kserve_fields import LONGEST_NAME, field_of, mapping_of, scalar_of, text_of
from orchestrator.http.tensor_json import numbers_in, texts_in

_NO_PARAMETER = frozenset({"triton_final_response"})
"""Of what a response carries beside its outputs: how the stream is framed is not the reader's business here."""


def request_of(
    fields: Mapping[str, msgspec.Raw],
    model: str,
    version: str | None,
    inputs: Sequence[TensorSpec],
    *,
    batched: bool,
    values: int,
) -> tuple[InferRequest, str]:
    """Return the inference that a body's fields ask for, and the `id` that its answers have; raises `InvalidRequest`.

    A key that names an input is that tensor: a value, or a list of them. All others, and what is in `parameters`, are
    parameters of the request.

    Args:
        fields: The body's, as `kserve_fields.head_of` reads them.
        model: What the path names.
        version: What the path names.
        inputs: What the model declares.
        batched: Whether the first dimension of each is that of a batch.
        values: How many values the JSON may have, beside the numbers of tensors.
    """
    declared = {spec.name: spec for spec in inputs}
    said = text_of({"id": field_of(fields, "id")}, "id")
    parameters = mapping_of(field_of(fields, "parameters"), "parameters")
    tensors = []
    for name, raw in fields.items():
        if (spec := declared.get(name)) is not None:
            tensors.append(_tensor(spec, raw, batched=batched, values=values))
        elif name not in ("id", "parameters"):
            parameters[name] = field_of(fields, name, f"parameter {name[:LONGEST_NAME]!r}")
    if len(tensors) > MAX_TENSORS:
        raise InvalidRequest(f"there are {len(tensors)} inputs; there may be {MAX_TENSORS}")
    request = InferRequest(
        model=model,
        model_version=version,
        inputs=tuple(tensors),
        parameters={name: scalar_of(name, value) for name, value in parameters.items()},
    )
    return request, said


def flat_of(response: InferResponse, id: str) -> bytes:
    """Return a response as one JSON object: an output of one element is that element, any other one a list.

    Raises:
        ProtocolViolation: An output is not what its datatype says.
    """
    said: dict[str, Any] = {"id": id} if id else {}
    said |= {name: value for name, value in response.parameters.items() if name not in _NO_PARAMETER}
    for tensor in response.outputs:
        data = json_data(tensor)
        said[tensor.name] = msgspec.Raw(bytes(data)[1:-1]) if prod(tensor.shape) == 1 else data
    return msgspec.json.encode(said | {"model_name": response.model, "model_version": response.model_version or ""})


def _tensor(spec: TensorSpec, raw: msgspec.Raw, *, batched: bool, values: int) -> Tensor:
    text = bytes(raw)
    listed = raw if text[:1] == b"[" else msgspec.Raw(b"[" + text + b"]")
    depth = max(len(spec.shape), 1)
    try:
        if spec.datatype == "BYTES":
            require_bounded(text, f"input {spec.name!r}", values=values)
            elements = [each.encode() for each in texts_in(listed, depth)]
            return Tensor.from_bytes_elements(spec.name, elements, _shape(spec, len(elements), batched=batched))
        dtype = NUMPY.get(spec.datatype)
        if dtype is None:
            raise InvalidRequest(f"input {spec.name!r} is {spec.datatype}, which JSON has no form for")
        numbers = numbers_in(listed, np.dtype(dtype), depth)
    except TypeError as exc:
        raise InvalidRequest(f"input {spec.name!r} takes texts") from exc
    except ValueError as exc:
        raise InvalidRequest(f"input {spec.name!r}: the data does not fit {spec.datatype} {list(spec.shape)}") from exc
    array = numbers.reshape(_shape(spec, numbers.size, batched=batched))
    return Tensor.from_numpy(spec.name, array, cast(Datatype, spec.datatype))


def _shape(spec: TensorSpec, count: int, *, batched: bool) -> tuple[int, ...]:
    """Return the shape of that many elements: what the declared sizes leave over goes into the last free dimension, or
    else into the batch."""
    dims = spec.shape[1:] if batched else spec.shape
    free = [at for at, size in enumerate(dims) if size < 0]
    left_over, remainder = divmod(count, prod(size for size in dims if size > 0))
    if remainder or (not free and not batched and left_over != 1):
        raise InvalidRequest(f"input {spec.name!r}: {count} elements do not fit its shape {list(spec.shape)}")
    shape = [1 if size < 0 else size for size in dims]
    if free:
        shape[free[-1]] = left_over
    batch = [1 if free else left_over] if batched else []
    return (*batch, *shape)
