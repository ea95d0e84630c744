"""How a detection client works: which model, what it is told about it, and which boxes it keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapter_api import ConfigurationError
from adapter_api.task import describe_validation_error
from adapter_clients.detection.names import names_of, read_names
from adapter_clients.detection.placing import Placing
from adapter_kit.images.limits import PictureLimits

Layout = Literal["raw", "rows", "objectness", "yolox", "rtdetr", "rfdetr", "detr"]
Task = Literal["detect", "segment", "pose"]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=16384)]

LONGEST_S = 604_800
"""What a picture may take at most: a week."""

_SETTING_OF_VARIABLE = {
    "TRITON_ENABLED": "enabled",
    "TRITON_TIMEOUT": "timeout_s",
    "TRITON_MODEL": "model",
    "TRITON_MAX_RETRIES": "max_retries",
    "TRITON_CONFIDENCE_THRESHOLD": "confidence",
}
_CONFIDENCE_FROM_ENVIRONMENT = 0.5


class DetectionSettings(BaseModel):
    """Settings of a `DetectionClient`. What is `None` the model tells, or its family of layouts has a default for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    model: str | None = Field(default=None, min_length=1, description="the model of calls that name none")
    model_version: str | None = Field(default=None, min_length=1, description="the engine's choice if none")
    enabled: bool = Field(default=True, description="false switches detection off: every call says so")
    timeout_s: float = Field(default=60.0, gt=0, le=LONGEST_S, description="one picture, with its repetitions")
    max_retries: int = Field(default=3, ge=0, le=20, description="repetitions of what may be tried again")
    max_in_flight: int = Field(default=8, ge=1, le=256, description="pictures of a batch at work at once")
    max_batch: int = Field(default=1000, ge=1, le=100_000, description="pictures of one batch; `detect_each` takes any")
    model_ttl_s: float = Field(default=60.0, gt=0, description="how long what a model declares is believed")

    confidence: Share | None = Field(default=None, description="boxes above it are kept; 0.25, or 0.5 of DETR kinds")
    iou: Share | None = Field(default=None, description="boxes that overlap more go; 0.7, or 0.45 with objectness")
    max_detections: int | None = Field(default=None, ge=1, le=30_000, description="300, or 1,000 with objectness")
    class_agnostic: bool = Field(default=False, description="boxes of different classes suppress each other too")
    classes: frozenset[int] | None = Field(default=None, description="numbers of the classes to look for; all if none")

    layout: Layout | None = Field(default=None, description="the family of the model's output")
    task: Task | None = Field(default=None, description="what the model is for, where nothing tells")
    decoded: bool = Field(default=False, description="of yolox: the boxes are in pixels already (decode_in_inference)")
    fractions: bool = Field(default=False, description="the boxes of raw, rows, objectness are 0 to 1, not in pixels")
    activation: Literal["sigmoid", "softmax"] | None = Field(default=None, description="of the scores of detr")
    names: tuple[str, ...] | None = Field(default=None, min_length=1, description="the classes, in order")
    names_file: Path | None = Field(default=None, description="the classes: one a line, or JSON")
    size: tuple[Side, Side] | None = Field(default=None, description="height and width, of models that take any")
    placing: Placing | None = Field(default=None, description="how a picture is fitted into the input")
    normalise: Literal["unit", "imagenet", "none"] | None = Field(
        default=None, description="of the input's values: 0 to 1, ImageNet's mean and deviation, or 0 to 255"
    )
    channels: Literal["rgb", "bgr"] | None = Field(default=None, description="the order that the model takes")
    array_order: Literal["rgb", "bgr"] = Field(default="rgb", description="of the arrays you give; OpenCV's are bgr")

    max_pixels: int = Field(default=PictureLimits().max_pixels, ge=1, description="of one picture")
    max_bytes: int = Field(default=PictureLimits().max_bytes, ge=1, description="of one encoded picture")

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("names", mode="before")
    @classmethod
    def _in_order(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            found = names_of(value) or {}
            if sorted(found) != list(range(len(found))):
                raise ValueError("must number the classes 0, 1, 2 … without a gap")
            return tuple(found[number] for number in range(len(found)))
        return value

    @classmethod
    def make(cls, **settings: Any) -> Self:
        """Return the settings; raises `ConfigurationError` that names what is unknown or wrong."""
        try:
            return cls.model_validate(settings)
        except ValidationError as exc:
            raise ConfigurationError(describe_validation_error(exc, "detection settings")) from exc

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Self:
        """Return settings from `TRITON_MODEL`, `TRITON_TIMEOUT`, `TRITON_MAX_RETRIES`, `TRITON_ENABLED` and
        `TRITON_CONFIDENCE_THRESHOLD`, which is 0.5 where it is not set; `settings` win.

        Raises:
            ConfigurationError: A variable or a setting is unknown or wrong; it is named.
        """
        environ = os.environ if environ is None else environ
        read: dict[str, Any] = {"confidence": _CONFIDENCE_FROM_ENVIRONMENT}
        for variable, setting in _SETTING_OF_VARIABLE.items():
            if value := environ.get(variable, "").strip():
                read[setting] = value
                if setting not in settings:
                    _check(cls, variable, setting, value)
        return cls.make(**{**read, **settings})

    @cached_property
    def limits(self) -> PictureLimits:
        return PictureLimits(max_pixels=self.max_pixels, max_bytes=self.max_bytes)

    @cached_property
    def class_names(self) -> Mapping[int, str] | None:
        """The names that are set, in a list or a file; raises `ConfigurationError` when the file holds none."""
        if self.names is not None:
            return dict(enumerate(self.names))
        return read_names(self.names_file) if self.names_file is not None else None


def _check(settings: type[DetectionSettings], variable: str, setting: str, value: str) -> None:
    """Name the variable, not the setting that it is for."""
    try:
        settings.model_validate({setting: value})
    except ValidationError as exc:
        reason = exc.errors(include_url=False, include_input=False)[0]["msg"]
        raise ConfigurationError(f"{variable}: {reason[:1].lower()}{reason[1:]}") from exc
