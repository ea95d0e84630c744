"""Tensors from what a test writes down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapter_api.errors import ConfigurationError
from adapter_api.tensors import Tensor
from triton_adapter.wire import v2_pb2 as v2

from .admission import datatype_name

_NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "BF16": np.float32, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


def texts(name: str, *elements: str | bytes, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor.from_bytes_elements(name, [e.encode() if isinstance(e, str) else e for e in elements], shape)


def numbers(name: str, datatype: str, values: Sequence[float], shape: tuple[int, ...] | None = None) -> Tensor:
    array = np.asarray(values, dtype=_NUMPY[datatype])
    return Tensor.from_numpy(name, array if shape is None else array.reshape(shape))


def outputs_of(config: v2.ModelConfig, given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the outputs of one message in the datatypes that the model declares.

    A value is a `Tensor`, a numpy array, a list, a string, bytes, or a number; a lone value has the shape [1], or
    [1, 1] where the model has a batch dimension.
    """
    declared = {output.name: datatype_name(output.data_type) for output in config.output}
    made = {}
    for name, value in given.items():
        if isinstance(value, Tensor):
            made[name] = value
            continue
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ConfigurationError(f"model {config.name!r} declares no output {name!r}; its outputs are: {known}")
        made[name] = _tensor(name, declared[name], value, 2 if config.max_batch_size else 1)
    return made


def _tensor(name: str, datatype: str, value: Any, rank: int) -> Tensor:
    if datatype == "BYTES":
        array = np.empty((), dtype=object)
        if isinstance(value, (str, bytes)):
            array[()] = value
        else:
            array = np.asarray(value, dtype=object)
    else:
        array = np.asarray(value, dtype=_NUMPY[datatype])
    if array.ndim == 0:
        array = array.reshape((1,) * rank)
    return Tensor.from_numpy(name, array, datatype)  # type: ignore[arg-type]
