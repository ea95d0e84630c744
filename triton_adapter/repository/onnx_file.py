"""What an ONNX file tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adapter_api import ConfigurationError
from adapter_kit.installing import install_extra
from adapter_kit.printable import printable_line

_DATA_TYPES = {
    "tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(double)": "TYPE_FP64",
    "tensor(uint8)": "TYPE_UINT8", "tensor(int8)": "TYPE_INT8", "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64", "tensor(bool)": "TYPE_BOOL", "tensor(string)": "TYPE_STRING",
    "tensor(uint16)": "TYPE_UINT16", "tensor(int16)": "TYPE_INT16", "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
}  # fmt: skip


class OnnxTensor(NamedTuple):
    """An input or output; -1 in `shape` is any size."""

    name: str
    data_type: str
    shape: tuple[int, ...]


class OnnxFile(NamedTuple):
    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    metadata: Mapping[str, str]
    """What its author wrote into it; detectors have their task and class names there."""

    @property
    def takes_batches(self) -> bool:
        """Whether the first axis of every tensor is of any size."""
        return all(each.shape[:1] == (-1,) for each in (*self.inputs, *self.outputs))


def read_onnx(path: Path) -> OnnxFile:
    """Return what the file tells.

    Raises:
        ConfigurationError: It is none that onnxruntime runs, or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise ConfigurationError(f"reading ONNX files needs onnxruntime: {install_extra('onnx')}") from exc
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Only to be read: nothing is gained by making it faster first.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's have no common base
        reason = printable_line(str(exc)).replace(str(path), path.name)
        raise ConfigurationError(f"{path.name} is no model that onnxruntime runs: {reason}") from exc
    return OnnxFile(
        inputs=tuple(_tensor(path, each) for each in session.get_inputs()),
        outputs=tuple(_tensor(path, each) for each in session.get_outputs()),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def _tensor(path: Path, declared: Any) -> OnnxTensor:
    if declared.type not in _DATA_TYPES:
        raise ConfigurationError(f"{path.name}: {declared.name} is {declared.type}, which Triton does not have")
    # Symbols have names, and a scalar no axes: Triton's are of one.
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in declared.shape) or (1,)
    return OnnxTensor(declared.name, _DATA_TYPES[declared.type], shape)
