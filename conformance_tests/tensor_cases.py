"""Inferences on a model that returns what it is given, for every datatype: for harnesses."""

from __future__ import annotations

import msgspec

from adapter_api import Datatype, InferRequest, Tensor
from adapter_api.tensors import ITEM_SIZE
from conformance_tests.harness import KnownTensors

DATATYPES: tuple[Datatype, ...] = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
)  # fmt: skip


def echo_tensors(
    model: str,
    datatype: Datatype,
    *,
    shape: tuple[int, ...] = (2, 3),
    input_name: str = "INPUT0",
    output_name: str = "OUTPUT0",
) -> KnownTensors:
    """Return an inference on `model`, which must give back under `output_name` what it got under `input_name`."""
    tensor = sample_tensor(input_name, datatype, shape)
    return KnownTensors(
        request=InferRequest(model=model, inputs=(tensor,)),
        outputs=(msgspec.structs.replace(tensor, name=output_name),),
    )


def sample_tensor(name: str, datatype: Datatype, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor whose elements all differ where the datatype has that many values, byte order included."""
    count = 1
    for dimension in shape:
        count *= dimension
    if datatype == "BYTES":
        return Tensor.from_bytes_elements(name, [_element(at) for at in range(count)], shape)
    if datatype == "BOOL":
        return Tensor(name, datatype, shape, bytes(at % 2 for at in range(count)))
    size = ITEM_SIZE[datatype]
    # Bytes count up to 0x3f in each element's last place: no NaN in any of the floating-point formats.
    return Tensor(
        name, datatype, shape, b"".join(bytes((at + place) % 64 for place in range(size)) for at in range(count))
    )


def _element(at: int) -> bytes:
    """Empty, not UTF-8, with a zero byte, and plain."""
    return (b"", b"\xff\xfe", b"a\x00b", b"plain")[at % 4] + (str(at).encode() if at % 4 else b"")
