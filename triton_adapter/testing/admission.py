"""What the server checks of a request against the model's configuration, in its order and its words (Triton 2.51)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from adapter_api.tensors import ITEM_SIZE, Tensor
from triton_adapter.wire import v2_pb2 as v2

from .failure import TritonFailure
from .incoming import RawInput, request_tag

_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try "
    "setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)


def admit(
    config: v2.ModelConfig, request_id: str, inputs: Sequence[RawInput], requested_outputs: Sequence[str]
) -> dict[str, Tensor]:
    """Return the inputs as tensors, or raise what the server would answer."""
    return _Admission(config, request_id).admit(inputs, requested_outputs)


def datatype_name(datatype: v2.DataType) -> str:
    """Return the protocol's name of a configuration's datatype."""
    name = v2.DataType.Name(datatype).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


class _Admission:
    def __init__(self, config: v2.ModelConfig, request_id: str) -> None:
        self._config = config
        self._model = config.name
        self._tag = request_tag(request_id)
        self._declared = {declared.name: declared for declared in config.input}

    def admit(self, inputs: Sequence[RawInput], requested_outputs: Sequence[str]) -> dict[str, Tensor]:
        outputs = {declared.name for declared in self._config.output}
        for name in requested_outputs:
            if name not in outputs:
                raise _invalid(f"unexpected inference output '{name}' for model '{self._model}'")
        # The server keeps inputs in a hash table, which hands out a few of them last come, first served.
        inputs = list(reversed(inputs))
        self._check_count(inputs)
        if not inputs and self._config.max_batch_size > 0:
            raise _invalid(f"{self._tag}out of bounds index 0: request has 0 inputs")
        if self._config.max_batch_size > 0:
            self._check_batch(inputs)
        for given in inputs:
            self._check_tensor(given)
        for given in inputs:
            self._check_size(given)
        return {given.name: self._tensor(given) for given in reversed(inputs)}

    def _check_count(self, inputs: Sequence[RawInput]) -> None:
        required = [declared.name for declared in self._config.input if not declared.optional]
        least, most = len(required), len(self._declared)
        if least <= len(inputs) <= most:
            return
        names = [given.name for given in inputs]
        missing = [name for name in required if name not in names]
        expected = f"{most}" if least == most else f"number of inputs between {least} and {most}"
        expected = f"{expected} inputs" if least == most else expected
        # The missing bracket is the server's.
        listed = f"[{_quoted(missing)}]" if missing else "]"
        raise _invalid(
            f"{self._tag}expected {expected} but got {len(inputs)} inputs for model '{self._model}'. "
            f"Got input(s) [{_quoted(names)}], but missing required input(s) {listed}. "
            "Please provide all required input(s)."
        )

    def _check_batch(self, inputs: Sequence[RawInput]) -> None:
        batch: int | None = None
        for given in inputs:
            if given.name not in self._declared:
                raise self._unexpected(given)
            if not given.shape:
                raise _invalid(
                    f"{self._tag}input '{given.name}' has no shape but model requires batch dimension for "
                    f"'{self._model}'"
                )
            if batch is not None and given.shape[0] != batch:
                raise _invalid(
                    f"{self._tag}input '{given.name}' batch size does not match other inputs for '{self._model}'"
                )
            batch = given.shape[0]
        if batch is not None and batch > self._config.max_batch_size:
            raise _invalid(
                f"{self._tag}inference request batch-size must be <= {self._config.max_batch_size} for '{self._model}'"
            )

    def _check_tensor(self, given: RawInput) -> None:
        declared = self._declared.get(given.name)
        if declared is None:
            raise self._unexpected(given)
        expected = datatype_name(declared.data_type)
        if given.datatype != expected:
            known = given.datatype if given.datatype in ITEM_SIZE or given.datatype == "BYTES" else "<invalid>"
            raise _invalid(
                f"{self._tag}inference input '{given.name}' data-type is '{known}', but model '{self._model}' expects "
                f"'{expected}'"
            )
        batched = self._config.max_batch_size > 0
        dims = ([-1] if batched else []) + list(declared.dims)
        sizes_fit = (size >= 0 and dim in (-1, size) for dim, size in zip(dims, given.shape, strict=False))
        if len(dims) != len(given.shape) or not all(sizes_fit):
            raise _invalid(
                f"{self._tag}unexpected shape for input '{given.name}' for model '{self._model}'. Expected "
                f"{_shape(dims)}, got {_shape(given.shape)}. {_BATCH_NOTE if batched else ''}"
            )

    def _check_size(self, given: RawInput) -> None:
        shape = self._sizing_shape(given)
        if given.datatype == "BYTES":
            self._check_elements(given, prod(shape))
            return
        expected = prod(shape) * ITEM_SIZE[given.datatype]
        if expected != len(given.data):
            raise _invalid(
                f"{self._tag}input byte size mismatch for input '{given.name}' for model '{self._model}'. Expected "
                f"{expected}, got {len(given.data)}"
            )

    def _check_elements(self, given: RawInput, expected: int) -> None:
        of_input = f"for inference input '{given.name}' for model '{self._model}'"
        found, offset, overrun = 0, 0, None
        while offset < len(given.data):
            left = len(given.data) - offset
            if left < 4:
                raise _invalid(
                    f"{self._tag}incomplete string length indicator {of_input}, expecting 4 bytes but only {left} "
                    "bytes available. Please make sure the string length indicator is in one buffer."
                )
            size = int.from_bytes(given.data[offset : offset + 4], "little")
            found += 1
            if found > expected:
                raise _invalid(
                    f"{self._tag}unexpected number of string elements {found} {of_input}, expecting {expected}"
                )
            if size > left - 4:
                overrun = (size, left - 4)
            offset += 4 + size
        if found != expected:
            raise _invalid(f"{self._tag}expected {expected} string elements {of_input}, got {found}")
        if overrun is not None:
            # Only the model's backend notices, hence the other form.
            raise TritonFailure(
                "INVALID_ARGUMENT",
                f"incomplete string data for inference input '{given.name}', expecting string of length {overrun[0]} "
                f"but only {overrun[1]} bytes available",
                at_run_time=True,
            )

    def _sizing_shape(self, given: RawInput) -> tuple[int, ...]:
        # A batch of none counts as one of one.
        return (max(1, given.shape[0]), *given.shape[1:]) if self._config.max_batch_size > 0 else given.shape

    def _tensor(self, given: RawInput) -> Tensor:
        # The datatype was compared with the declared one.
        return Tensor(given.name, given.datatype, self._sizing_shape(given), given.data)  # type: ignore[arg-type]

    def _unexpected(self, given: RawInput) -> TritonFailure:
        return _invalid(f"unexpected inference input '{given.name}' for model '{self._model}'")


def _quoted(names: Sequence[str]) -> str:
    return ",".join(f"'{name}'" for name in names)


def _shape(dims: Sequence[int]) -> str:
    return f"[{','.join(map(str, dims))}]"


def _invalid(text: str) -> TritonFailure:
    return TritonFailure("INVALID_ARGUMENT", text)
