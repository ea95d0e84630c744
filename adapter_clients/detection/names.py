"""What a detector's classes are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapter_api import ConfigurationError

_MOST_BYTES = 1 << 20

COCO = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,
    bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,
    snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,
    fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,
    potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,
    refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n    ", "").split(",")
)
"""The 80 classes of COCO, in the order in which detectors have them."""

_UNUSED_IDS = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_SPARSE_SLOTS = 91
"""Detectors of the DETR kind have a slot for each of COCO's own numbers, 0 to 90, of which 11 mean nothing."""


def coco_names(count: int) -> Mapping[int, str] | None:
    """Return the names of COCO's classes where a model has as many; `None` where it does not."""
    if count == len(COCO):
        return dict(enumerate(COCO))
    if count == _SPARSE_SLOTS:
        used = [number for number in range(_SPARSE_SLOTS) if number not in _UNUSED_IDS]
        return dict(zip(used, COCO, strict=True))
    return None


def read_names(path: Path) -> dict[int, str]:
    """Return the names in a file: one a line, or JSON, a list or an object by number.

    Raises:
        ConfigurationError: It cannot be read, or holds no names.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ConfigurationError(f"names_file: {path.name} is larger than a mebibyte: it is no list of names")
        decoded = text.decode("utf-8-sig")
    except OSError as exc:
        raise ConfigurationError(f"names_file: cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise ConfigurationError(f"names_file: {path.name} is no UTF-8 text") from None
    if decoded.lstrip()[:1] in ("[", "{"):
        try:
            found = names_of(json.loads(decoded))
        except (ValueError, RecursionError):
            found = None
    else:
        found = dict(enumerate(line.strip() for line in decoded.splitlines() if line.strip()))
    if not found:
        raise ConfigurationError(f"names_file: {path.name} holds no names: one a line, or a JSON list")
    return found


def names_of(value: Any) -> dict[int, str] | None:
    """Return names by number of a list of texts or an object by number; `None` for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return {number: str(name) for number, name in enumerate(value)}
    if isinstance(value, Mapping):
        try:
            return {int(number): str(name) for number, name in value.items()}
        except (TypeError, ValueError):
            return None
    return None
