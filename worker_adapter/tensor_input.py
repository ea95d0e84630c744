"""Tensors as people type them: `NAME=[1, 2]`, `NAME=@array.npy`, `NAME=text`, `NAME:FP16=0.5`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from adapter_api import ConfigurationError, Datatype, InvalidRequest, Tensor, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_DATATYPES = frozenset(get_args(Datatype))
_FLOATS = {"FP16": "float16", "BF16": "float32", "FP32": "float32", "FP64": "float64"}


class Typed(NamedTuple):
    """One `--input` as it was typed."""

    name: str
    datatype: Datatype | None
    text: str


def read_inputs(texts: Sequence[str], declared: Mapping[str, TensorSpec]) -> tuple[Tensor, ...]:
    """Return the tensors that were typed.

    Args:
        texts: `NAME[:DATATYPE]=VALUE` each. A value is JSON, or text where the datatype is BYTES; `@FILE` is a file's
            content: an array (`.npy`), bytes for BYTES and UINT8, else JSON. `@@` is a text that begins with an `@`.
        declared: The model's inputs by name; empty when it does not say.

    Raises:
        InvalidRequest: An input is given twice or does not fit what is declared, or, where the declaration is law, is
            unknown or missing; it is named.
        ConfigurationError: A file cannot be read.
    """
    typed = [parse(text) for text in texts]
    names = [each.name for each in typed]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"input {name!r} is given twice")
        if declared and name not in declared and is_law(declared.values()):
            raise InvalidRequest(f"the model has no input {name!r}; it has {_listed(declared)}")
    missing = [name for name, spec in declared.items() if name not in names and spec.optional is False]
    if missing:
        wanted = ", ".join(f"{name} ({_form(declared[name])})" for name in missing)
        raise InvalidRequest(f"missing input: {wanted}; give each as --input NAME=VALUE")
    return tuple(read_input(each, declared.get(each.name)) for each in typed)


def is_law(declared: Iterable[TensorSpec]) -> bool:
    """Return whether an engine holds requests to what it declares: one that cannot say what is optional may not."""
    return all(spec.optional is not None for spec in declared)


def parse(text: str) -> Typed:
    """Return the parts of `NAME[:DATATYPE]=VALUE`; raises `InvalidRequest` when there are none."""
    left, equals, value = text.partition("=")
    name, colon, suffix = left.rpartition(":")
    if colon and suffix.upper() in _DATATYPES:
        datatype = cast(Datatype, suffix.upper())
    else:
        name, datatype = left, None
    if not (equals and name):
        raise InvalidRequest("--input takes NAME=VALUE or NAME:DATATYPE=VALUE, as in INPUT0=[1,2,3] or X:FP16=@x.npy")
    return Typed(name, datatype, value)


def read_input(typed: Typed, spec: TensorSpec | None) -> Tensor:
    """Return the tensor that was typed, in the shape that is declared."""
    import numpy as np

    datatype = typed.datatype or (cast(Datatype, spec.datatype) if spec is not None else None)
    path = Path(typed.text[1:]) if typed.text.startswith("@") and not typed.text.startswith("@@") else None
    text = typed.text[1:] if typed.text.startswith("@@") else typed.text
    array: Array
    if path is not None and path.suffix == ".npy":
        array = _load(path)
        if datatype is not None and datatype != "BYTES" and array.dtype.kind != "V":
            array = _cast(typed.name, array, datatype)
    elif path is not None and datatype in ("BYTES", "UINT8", None):
        content = _read(path)
        array = np.frombuffer(content, np.uint8) if datatype == "UINT8" else _texts([content], ())
    else:
        array, datatype = _literal(typed.name, text if path is None else _decoded(path), datatype)
    if spec is not None:
        array = _shaped(typed.name, array, spec)
    if array.dtype.kind in "OSU" and datatype not in (None, "BYTES"):
        raise InvalidRequest(f"input {typed.name!r} takes {datatype}, and a text was given")
    return Tensor.from_numpy(typed.name, array, datatype)


def _literal(name: str, text: str, datatype: Datatype | None) -> tuple[Array, Datatype]:
    import numpy as np

    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if datatype == "BYTES" or (datatype is None and not _is_numeric(value)):
        if isinstance(value, list) and (strings := _strings(value)) is not None:
            return strings, "BYTES"
        return _texts([text.encode()], ()), "BYTES"
    if not _is_numeric(value):
        raise InvalidRequest(f"input {name!r} takes {datatype}: give a number or a JSON list of numbers")
    # As Python's own numbers, so that none is rounded on the way.
    array = np.array(value, dtype=object)
    numbers = array.ravel().tolist()
    if any(isinstance(number, list) for number in numbers):
        raise InvalidRequest(f"input {name!r}: its lists are of different lengths")
    if datatype is None:
        is_float = any(isinstance(number, float) for number in numbers)
        is_bool = bool(numbers) and all(isinstance(number, bool) for number in numbers)
        datatype = "BOOL" if is_bool else "FP32" if is_float else "INT64"
    return _cast(name, array, datatype), datatype


def _cast(name: str, array: Array, datatype: Datatype) -> Array:
    """Return the numbers in another datatype; those that would change their value are refused, fractions rounded."""
    import numpy as np

    if array.dtype.kind not in "biufO":
        raise InvalidRequest(f"input {name!r}: an array of {array.dtype} cannot be {datatype}")
    if datatype in _FLOATS:
        try:
            exact = array.astype("float64")
        except OverflowError:
            raise InvalidRequest(f"input {name!r}: a number is too large for {datatype}") from None
        with np.errstate(over="ignore"):
            changed = exact.astype(_FLOATS[datatype])
        if (np.isinf(changed) & ~np.isinf(exact)).any():
            raise InvalidRequest(f"input {name!r}: a number is too large for {datatype}")
        return changed
    target = np.dtype(datatype.lower())
    limits = (0, 1) if datatype == "BOOL" else (np.iinfo(target).min, np.iinfo(target).max)
    if not _is_whole(array):
        raise InvalidRequest(f"input {name!r} takes {datatype}, and a number has a fraction or is not finite")
    if array.size and (int(array.min()) < limits[0] or int(array.max()) > limits[1]):
        raise InvalidRequest(f"input {name!r}: a number is outside the range of {datatype}, {limits[0]} to {limits[1]}")
    return array.astype(target)


def _is_whole(array: Array) -> bool:
    import numpy as np

    if array.dtype.kind == "O":
        return not any(isinstance(number, float) and not number.is_integer() for number in array.ravel())
    return array.dtype.kind != "f" or bool(np.isfinite(array).all() and (array == np.trunc(array)).all())


def _shaped(name: str, array: Array, spec: TensorSpec) -> Array:
    """Return the array with the dimensions of size one in front that are declared and were not typed."""
    if spec.optional is None and not spec.shape:
        return array  # nothing is known of its shape
    missing = spec.shape[: max(len(spec.shape) - array.ndim, 0)]
    filled = array.reshape((1,) * len(missing) + array.shape)
    fits = filled.ndim == len(spec.shape) and all(
        dim in (-1, size) for dim, size in zip(spec.shape, filled.shape, strict=True)
    )
    if not fits and spec.optional is None:
        return array  # as it was typed: what is declared is only advice
    if not fits:
        raise InvalidRequest(f"input {name!r} takes {_form(spec)}, not the shape {list(array.shape)}")
    return filled


def _is_numeric(value: Any) -> bool:
    """Whether a JSON value is a number or a truth value, or nested lists of them. An empty list is."""
    if isinstance(value, list):
        return all(_is_numeric(each) for each in value)
    return isinstance(value, bool | int | float)


def _strings(value: list[Any]) -> Array | None:
    """Return the array of nested lists of strings; `None` for anything else."""
    shape = [len(value)]
    level: list[Any] = value
    while level and all(isinstance(each, list) for each in level):
        if len({len(each) for each in level}) > 1:
            return None
        shape.append(len(level[0]))
        level = [inner for each in level for inner in each]
    if not all(isinstance(each, str) for each in level):
        return None
    return _texts([each.encode() for each in level], shape)


def _texts(elements: list[bytes], shape: Sequence[int]) -> Array:
    import numpy as np

    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(tuple(shape))


def _load(path: Path) -> Array:
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror or 'it is no .npy file'}") from None
    except (ValueError, EOFError):
        raise InvalidRequest(f"{path} is no array of numbers or texts (pickled objects are not read)") from None
    if not isinstance(found, np.ndarray):
        raise InvalidRequest(f"{path} holds several arrays; give one .npy per input")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from None


def _decoded(path: Path) -> str:
    try:
        return _read(path).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is neither .npy nor UTF-8 text") from None


def _listed(declared: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"{name} ({_form(spec)})" for name, spec in declared.items())


def _form(spec: TensorSpec) -> str:
    dims = ",".join("any" if dim == -1 else str(dim) for dim in spec.shape)
    return f"{spec.datatype} [{dims}]{', optional' if spec.optional else ''}"
