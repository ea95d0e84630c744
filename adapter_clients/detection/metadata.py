"""What a detector's file says of itself, in the form in which ultralytics writes it: Python literals in texts."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_clients.detection.names import names_of

_MOST_CHARACTERS = 1 << 20


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What the metadata tells; `None` where it has nothing to say, as older files have of most."""

    task: str | None = None
    head: str | None = None
    names: Mapping[int, str] | None = None
    size: tuple[int, int] | None = None
    """Height and width."""
    end_to_end: bool | None = None
    suppressed: bool | None = None
    """Whether the model does its own non-maximum suppression (`args.nms`)."""
    keypoints: tuple[int, int] | None = None
    """Points of a pose, and values of each."""

    @property
    def gives_rows(self) -> bool | None:
        """Whether the output is finished boxes; `None` where an older file does not say."""
        if self.end_to_end or self.suppressed:
            return True
        return None if self.end_to_end is None else False


def read_metadata(text: str | None) -> ModelMetadata | None:
    """Return what the text says; `None` for none, or for what cannot be read: then it is as good as missing."""
    found = _literal(text) if text else None
    if not isinstance(found, Mapping):
        return None
    # Both forms are about: the values may be literals, or texts of them.
    values = {str(key): _literal(value) if isinstance(value, str) else value for key, value in found.items()}
    args = values.get("args")
    return ModelMetadata(
        task=_text(values.get("task")),
        head=_text(values.get("head")),
        names=names_of(values.get("names")) or None,
        size=_pair(values.get("imgsz")),
        end_to_end=_flag(values.get("end2end")),
        suppressed=_flag(args.get("nms")) if isinstance(args, Mapping) else None,
        keypoints=_pair(values.get("kpt_shape")),
    )


def _literal(text: str) -> Any:
    if len(text) > _MOST_CHARACTERS:
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return bool(value) if isinstance(value, bool | int) else None


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value):
        return value[0], value[1]
    return None
