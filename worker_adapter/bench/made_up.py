"""Inputs for a model of which only the declaration is known."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, Any, cast

from adapter_api import Datatype, InvalidRequest, Tensor, TensorSpec

if TYPE_CHECKING:
    import numpy as np

_MOST_ELEMENTS = 64 * 1024 * 1024
_FLOATS = {"FP16": "float16", "BF16": "float32", "FP32": "float32", "FP64": "float64"}
_TEXT = b"bench"


def made_up_inputs(model: str, declared: Iterable[TensorSpec], free: int) -> tuple[Tensor, ...]:
    """Return small numbers, and short texts, in the declared shapes. Optional inputs are given if there are no others.

    Args:
        free: The size of each dimension that the model leaves open.

    Raises:
        InvalidRequest: Nothing is declared, or one would be larger than 64 Mi elements.
    """
    known = tuple(declared)
    specs = [spec for spec in known if spec.optional is not True] or known
    if not specs:
        raise InvalidRequest(f"model {model!r} does not tell its inputs: give each as --input NAME:DATATYPE=VALUE")
    return tuple(_made_up(spec, free) for spec in specs)


def _made_up(spec: TensorSpec, free: int) -> Tensor:
    shape = tuple(free if dim < 0 else dim for dim in spec.shape)
    size = prod(shape)
    if size > _MOST_ELEMENTS:
        raise InvalidRequest(
            f"input {spec.name!r} would have {size:,} elements in the shape {list(shape)}: take a smaller --dim, or "
            "give it as --input NAME=@FILE.npy"
        )
    datatype = cast(Datatype, spec.datatype)
    return Tensor.from_numpy(spec.name, _values(datatype, size).reshape(shape), datatype)


def _values(datatype: Datatype, size: int) -> np.ndarray[Any, Any]:
    import numpy as np

    if datatype == "BYTES":
        texts = np.empty(size, dtype=object)
        texts[:] = [_TEXT] * size
        return texts
    if datatype == "BOOL":
        truths: np.ndarray[Any, Any] = np.arange(size) % 2 == 0
        return truths
    # Small enough to be exact in every datatype.
    values: np.ndarray[Any, Any] = (np.arange(size) % 7).astype(_FLOATS.get(datatype, datatype.lower()))
    return values
