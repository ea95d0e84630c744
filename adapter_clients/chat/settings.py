"""How a chat is held: what is asked of the model, what is remembered, how large a picture may be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapter_api import ConfigurationError
from adapter_api.task import describe_validation_error

_FIELD_OF_VARIABLE = {
    "TRITON_ENABLED": "enabled",
    "TRITON_MODEL": "model",
    "TRITON_TIMEOUT": "timeout_s",
    "SYSTEM_PROMPT": "system",
    "MAX_HISTORY": "max_history",
    "MAX_NEW_TOKENS": "max_new_tokens",
    "TEMPERATURE": "temperature",
    "TOP_P": "top_p",
    "MAX_IMAGE_PIXELS": "max_image_pixels",
    "MAX_IMAGE_BYTES": "max_image_bytes",
    "MAX_IMAGE_SIDE": "max_image_side",
}

Bytes = Annotated[int, Field(ge=1, le=2**40)]


class ChatSettings(BaseModel):
    """Settings of a `ChatClient`. `None` leaves a choice to the engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool = Field(default=True, description="false switches the chat off: every question is told so")
    model: str | None = Field(default=None, min_length=1, description="the engine's only text model when absent")
    system: str | None = Field(default=None, repr=False, description="the system prompt of every chat")
    max_history: int = Field(default=5, ge=0, le=1000, description="turns of a session that are remembered")
    max_history_bytes: Bytes = Field(default=64 * 2**20, description="of a session, images and all")
    max_sessions: int = Field(default=256, ge=1, description="the one that is silent for longest is forgotten")
    max_new_tokens: int = Field(
        default=512,
        ge=0,
        le=2**31 - 1,
        description="of an answer, at most what the model allows; 0: its own choice",
    )
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False, description="for an answer, and for its turn")
    max_concurrency: int = Field(default=8, ge=1, le=1024, description="questions of a batch at once")
    max_images: int = Field(default=16, ge=0, le=4096, description="of one question")
    max_image_pixels: int = Field(default=50_000_000, ge=1, le=178_956_970, description="one with more is refused")
    max_image_bytes: Bytes = Field(default=20_000_000, description="of its file, and of what is sent; refused as well")
    max_image_side: int = Field(default=2048, ge=1, description="a picture whose longer side has more is scaled down")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Self:
        """Return the settings in environment variables; `overrides` win over them.

        Read are `MAX_HISTORY`, `MAX_NEW_TOKENS`, `TEMPERATURE`, `TOP_P`, `SYSTEM_PROMPT`, `MAX_IMAGE_PIXELS`,
        `MAX_IMAGE_BYTES`, `MAX_IMAGE_SIDE`, `TRITON_ENABLED`, `TRITON_MODEL` and
        `TRITON_TIMEOUT`; empty ones count as unset.

        Raises:
            ConfigurationError: One of them is wrong; the message names the variable.
        """
        found = {field: text for name, field in _FIELD_OF_VARIABLE.items() if (text := environ.get(name, "").strip())}
        variables = {field: name for name, field in _FIELD_OF_VARIABLE.items() if field in found}
        try:
            return cls.model_validate({**found, **overrides})
        except ValidationError as exc:
            wrong = {str(error["loc"][0]) for error in exc.errors() if error["loc"]}
            names = ", ".join(sorted(variables[field] for field in wrong & variables.keys() - overrides.keys()))
            said = describe_validation_error(exc, "chat settings")
            raise ConfigurationError(f"{said}; set by {names}" if names else said) from exc
