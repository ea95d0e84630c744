"""Tensors that are none: what a broken engine sends, and what a client of the wire alone can send."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from adapter_api import Tensor
from adapter_api.tensors import Datatype


def unchecked(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    """Return a `Tensor` that `Tensor` itself would refuse to be."""
    tensor = Tensor(name, cast(Datatype, datatype), (0,), b"")
    fields: dict[str, Any] = {"shape": shape, "data": data}
    for field, value in fields.items():
        msgspec.structs.force_setattr(tensor, field, value)
    return tensor
