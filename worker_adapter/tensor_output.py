"""The responses of an inference: as a table, as JSON, as files."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapter_api import ConfigurationError, InferResponse, Tensor
from worker_adapter.terminal import print_table

_SHOWN = 8
_LONGEST_TEXT = 60
_UNFIT_FOR_A_FILE = re.compile(r"[^\w.-]+|^\.+")


def print_response(response: InferResponse) -> None:
    """Print one line per output, with its first values."""
    rows = [(each.name, each.datatype, str(list(each.shape)), _first_values(each)) for each in response.outputs]
    print_table(("OUTPUT", "DATATYPE", "SHAPE", "VALUES"), rows)


def document(response: InferResponse) -> dict[str, Any]:
    """Return a response as JSON has it, all values in C order; bytes that are no UTF-8 are `{"b64": …}`."""
    return {
        "model": response.model,
        "model_version": response.model_version,
        "request_id": response.request_id,
        "final": response.final,
        "parameters": dict(response.parameters),
        "outputs": [
            {
                "name": each.name,
                "datatype": each.datatype,
                "shape": each.shape,
                "data": [_as_json(value) for value in _values(each)],
            }
            for each in response.outputs
        ],
    }


def save(response: InferResponse, folder: Path, *, number: int | None = None) -> Iterator[Path]:
    """Write each output to a file and yield its path: `NAME.npy`, of a stream `NAME.NUMBER.npy`.

    BF16 becomes float32. Texts become an array of bytes, which loses zero bytes at their end: those go to `NAME.bin`
    as they came, each with its length before it.

    Raises:
        ConfigurationError: A file cannot be written.
    """
    import numpy as np

    taken: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each in response.outputs:
            path = folder / _file_name(each.name, number, taken)
            if each.datatype != "BYTES":
                np.save(path, each.to_numpy(), allow_pickle=False)
            elif any(element.endswith(b"\0") for element in each.elements()):
                path = path.with_suffix(".bin")
                path.write_bytes(each.data)
            else:
                np.save(path, np.array(each.elements(), dtype=np.bytes_).reshape(each.shape), allow_pickle=False)
            yield path
    except OSError as exc:
        raise ConfigurationError(f"cannot write to {folder}: {exc.strerror}") from None


def _file_name(output: str, number: int | None, taken: set[str]) -> str:
    # The model chose the name: it must not lead out of the folder, nor hide another output.
    name = _UNFIT_FOR_A_FILE.sub("_", output) or "_"
    while name in taken:
        name += "_"
    taken.add(name)
    return f"{name}.npy" if number is None else f"{name}.{number}.npy"


def _values(tensor: Tensor) -> list[Any]:
    values: list[Any] = tensor.elements() if tensor.datatype == "BYTES" else tensor.to_numpy().ravel().tolist()
    return values


def _as_json(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _first_values(tensor: Tensor) -> str:
    if tensor.datatype == "BYTES":
        values = [_shown(element) for element in tensor.elements()[: _SHOWN + 1]]
    else:
        values = [_number(value) for value in tensor.to_numpy().ravel()[: _SHOWN + 1].tolist()]
    return ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _shown(element: bytes) -> str:
    text = element[: 4 * _LONGEST_TEXT].decode(errors="backslashreplace")
    return repr(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
