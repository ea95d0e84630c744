"""The model's input for pictures: which it is, how large, and in which order its values lie."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adapter_api import ConfigurationError, ModelProps, Tensor, TensorSpec, Unsupported
from adapter_clients.detection.metadata import ModelMetadata
from adapter_clients.detection.placing import GREY, Placement
from adapter_clients.detection.resizing import Pixels
from adapter_clients.detection.settings import DetectionSettings

_DATATYPES = {"FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8}
_SIDE = 640
"""Of a model that takes any size, where nothing says which."""
_LARGEST = 16384

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


class ImageInput(NamedTuple):
    """The input that takes the picture. `batch` is its first axis: `None` when it has none."""

    name: str
    datatype: str
    batch: int | None
    height: int
    width: int
    channels_first: bool
    any_size: bool
    """Whether the model takes other sizes, too."""
    mask: TensorSpec | None = None
    """A second input that says where the picture lies in it."""

    def tensors(self, pixels: Pixels, placement: Placement, *, normalise: str, channels: str) -> tuple[Tensor, ...]:
        """Return the inputs for one picture; where the batch is fixed, with nothing in its other places.

        Args:
            pixels: The picture as it is placed, [placed_height, placed_width, 3].
        """
        shape: tuple[int, ...] = (3, self.height, self.width) if self.channels_first else (self.height, self.width, 3)
        shape = shape if self.batch is None else (self.batch, *shape)
        whole = (np.empty if (self.batch or 1) == 1 else np.zeros)(shape, _DATATYPES[self.datatype])
        first = whole if self.batch is None else whole[0]
        target = first if self.channels_first else first.transpose(2, 0, 1)
        values = (pixels[:, :, ::-1] if channels == "bgr" else pixels).transpose(2, 0, 1)
        left, top = placement.left, placement.top
        right, below = left + placement.placed_width, top + placement.placed_height
        self._write(target[:, top:below, left:right], values, normalise)
        edge = np.full((3, 1, 1), GREY, np.uint8)
        for around in (target[:, :top], target[:, below:], target[:, top:below, :left], target[:, top:below, right:]):
            self._write(around, edge, normalise)
        tensors = [Tensor(self.name, self.datatype, shape, memoryview(whole).cast("B"))]  # type: ignore[arg-type]
        if self.mask is not None:
            inside = np.zeros((self.batch or 1, self.height, self.width), np.int64)
            inside[:, top:below, left:right] = 1
            tensors.append(Tensor.from_numpy(self.mask.name, inside))
        return tuple(tensors)

    def _write(self, target: np.ndarray[Any, Any], pixels: Pixels, normalise: str) -> None:
        """Write pixels [3, height, width], or one for all, as the model's values where they are sent from."""
        if not target.size:
            return
        if self.datatype == "UINT8" or normalise == "none":
            target[...] = pixels
        elif self.datatype == "FP32" and pixels.shape == target.shape:
            # Two passes are faster than one that turns and divides.
            target[...] = pixels
            _normalise(target, normalise)
        else:
            values = pixels.astype(np.float32)
            _normalise(values, normalise)
            target[...] = values


def find_input(model: ModelProps, metadata: ModelMetadata | None, settings: DetectionSettings) -> ImageInput:
    """Return the model's input for pictures.

    Raises:
        Unsupported: It has none, or several, or one of another kind; the message says what it has.
        ConfigurationError: The size that is set is not the model's.
    """
    if not model.inputs:
        raise Unsupported(
            f"the engine does not tell what model {model.name!r} takes, and pictures need its inputs; servers of the "
            "v2 protocol tell, by grpc:// or http+v2:// (an http:// of TRITON_PROTOCOL=http)"
        )
    found = [(spec, order) for spec in model.inputs if (order := _order_of(spec)) is not None]
    if len(found) != 1:
        raise Unsupported(
            f"model {model.name!r} has {'no input' if not found else 'several inputs'} for a picture (FP32, FP16 or "
            f"UINT8, [3,H,W] or [H,W,3]): it takes {', '.join(map(_form, model.inputs))}"
        )
    spec, channels_first = found[0]
    others = [each for each in model.inputs if each is not spec and not each.optional]
    mask = next((each for each in others if each.name == "pixel_mask" and each.datatype == "INT64"), None)
    if unknown := [each for each in others if each is not mask]:
        raise Unsupported(
            f"model {model.name!r} needs more than a picture: {', '.join(map(_form, unknown))}; export it without"
        )
    dims = spec.shape[-3:]
    declared = dims[1:] if channels_first else dims[:2]
    height, width = _size(model.name, declared, metadata, settings)
    batch = None if len(spec.shape) == 3 else max(spec.shape[0], 1)
    return ImageInput(spec.name, spec.datatype, batch, height, width, channels_first, -1 in declared, mask)


def _normalise(values: np.ndarray[Any, Any], normalise: str) -> None:
    values /= np.float32(255)
    if normalise == "imagenet":
        values -= _MEAN
        values /= _DEVIATION


def without_batch(shape: tuple[int, ...], image: ImageInput) -> tuple[int, ...]:
    """Return an output's shape for one picture."""
    has_batch = image.batch is not None or (len(shape) > 2 and shape[0] == 1)
    return shape[1:] if has_batch else shape


def _size(
    name: str, declared: tuple[int, ...], metadata: ModelMetadata | None, settings: DetectionSettings
) -> tuple[int, int]:
    wanted = settings.size or (metadata and metadata.size) or (_SIDE, _SIDE)
    if settings.size and any(dim not in (-1, side) for dim, side in zip(declared, settings.size, strict=True)):
        raise ConfigurationError(
            f"size is {settings.size[0]} x {settings.size[1]}, and model {name!r} takes "
            f"{' x '.join('any' if dim == -1 else str(dim) for dim in declared)} only (height x width)"
        )
    height, width = (side if dim == -1 else dim for dim, side in zip(declared, wanted, strict=True))
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise Unsupported(f"model {name!r} wants pictures of {height} x {width}: set `size`, or export it with another")
    return height, width


def _order_of(spec: TensorSpec) -> bool | None:
    """Return whether the channels come first; `None` when this is no input for a picture."""
    if spec.datatype not in _DATATYPES or len(spec.shape) not in (3, 4):
        return None
    dims = spec.shape[-3:]
    return True if dims[0] == 3 else False if dims[2] == 3 else None


def _form(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype} {list(spec.shape)}"
