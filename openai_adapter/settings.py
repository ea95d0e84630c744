"""How to reach an engine and how to treat it, from arguments or the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)

from adapter_api import Capability, ConfigurationError
from adapter_api.task import describe_validation_error
from adapter_kit.tls import TlsSettings
from openai_adapter.address import Address, parse_address

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_OPTION_OF_VARIABLE = {
    "OPENAI_BASE_URL": "url",
    "OPENAI_API_KEY": "api_key",
    "OPENAI_API_KEY_FILE": "api_key_file",
    "OPENAI_ORG_ID": "organization",
    "OPENAI_PROJECT_ID": "project",
    "OPENAI_MODEL": "model",
    "OPENAI_TIMEOUT": "timeout_s",
    "OPENAI_MAX_RETRIES": "max_retries",
    # The orchestrator's own names win over the generic ones.
    "ORCHD_OPENAI_URL": "url",
    "ORCHD_OPENAI_POOL": "pool_id",
    "ORCHD_OPENAI_REPLICA": "replica_id",
}
_HEADER = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$")
_HEADERS_OF_OURS = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "expect", "host",
    "transfer-encoding",
})  # fmt: skip


def _sound_headers(value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    for name in value:
        if not _HEADER.match(name):
            raise ValueError(f"{name[:64]!r} cannot be the name of a header")
        if name.lower() in _HEADERS_OF_OURS:
            raise ValueError(f"the header {name!r} is written by the adapter; for a key there is `api_key`")
    return MappingProxyType(dict(value))


Headers = Annotated[Mapping[str, SecretStr], AfterValidator(_sound_headers), PlainSerializer(dict)]


class OpenAISettings(BaseModel):
    """Settings of an `OpenAIAdapter`.

    Times are in seconds. A task is stopped by whichever deadline runs out first: its own `timeout_s` (else the one
    here), `first_token_timeout_s` until the first output, `inter_token_timeout_s` between two outputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(default="http://localhost:8000", description="http(s)://host:port, with or without /v1")
    pool_id: str = "default"
    replica_id: str = "r0"
    model: str | None = Field(default=None, min_length=1, description="the model of clients that name none")
    unlisted_models: Literal["refuse", "send"] = Field(
        default="refuse",
        description="what to do with a task for a model that the engine does not list: llama.cpp answers any name with "
        "the one model it has, gateways may have more than they list",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None, description="how the engine calls a task's `max_tokens`; found out where it tells"
    )
    honours: frozenset[Capability] = Field(
        default=frozenset(),
        description="what its models heed although nobody can tell from outside: seed, response_format, tools, "
        "logprobs, images, reasoning, chat_template_kwargs, prompt_token_ids, token_ids, continue_final_message, "
        "prompt_logprobs, tensors",
    )
    extra_fields: frozenset[str] = Field(
        default=frozenset(),
        description="fields of a request that the engine takes and does not tell of: for a task's `openai.` parameters",
    )
    slots: int | None = Field(
        default=None, ge=1, description="tasks that the engine works on at once, where it does not tell: --max-num-seqs"
    )

    api_key: SecretStr | None = None
    api_key_file: Path | None = Field(default=None, description="read again when it changes on disk")
    organization: str | None = Field(default=None, pattern=r"^[\x21-\x7e]+$")
    project: str | None = Field(default=None, pattern=r"^[\x21-\x7e]+$")
    headers: Headers = Field(
        default_factory=lambda: MappingProxyType({}), description="others to send, as a gateway may want them"
    )
    tls: TlsSettings = TlsSettings()
    proxy: SecretStr | None = Field(
        default=None, description="http://[user:password@]host:port; without it the environment's, if any"
    )
    proxy_from_environment: bool = Field(
        default=True, description="honour HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; never for loopback"
    )

    connect_timeout_s: Seconds = 5.0
    control_timeout_s: Seconds = Field(default=5.0, description="for health, properties, cancel, each")
    first_token_timeout_s: Seconds = 30.0
    inter_token_timeout_s: Seconds = 20.0
    timeout_s: Seconds = Field(default=60.0, description="the whole task, when it does not say itself")
    max_retries: int = Field(default=3, ge=0, le=20, description="repetitions of what never reached the engine")
    metadata_ttl_s: Seconds = Field(default=60.0, description="how long what the engine says of itself is believed")
    max_message_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="largest answer, and largest event of a stream (16 MiB at most)"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        address = self.address
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("give api_key or api_key_file, not both")
        if self.api_key is not None and not re.fullmatch(r"[\x21-\x7e]+", self.api_key.get_secret_value()):
            raise ValueError("api_key: a key is one word of ASCII, as it goes into a header")
        if not address.tls and self.tls != TlsSettings():
            raise ValueError("TLS files are given but the URL is plaintext; write https://")
        return self

    @property
    def address(self) -> Address:
        """Where the engine listens."""
        return parse_address(self.url)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Self:
        """Return the settings in environment variables; `overrides` win over them.

        Read are `ORCHD_OPENAI_URL`, `_POOL`, `_REPLICA`, and `OPENAI_BASE_URL`, `_API_KEY`, `_API_KEY_FILE`, `_ORG_ID`,
        `_PROJECT_ID`, `_MODEL`, `_TIMEOUT`, `_MAX_RETRIES`; empty ones count as unset. A key that is given as an option
        leaves none of the environment's.

        Raises:
            ConfigurationError: A value is wrong; the message names the variable or option.
        """
        options: dict[str, Any] = {}
        source: dict[str, str] = {}
        taken = set(overrides)
        if taken & {"api_key", "api_key_file"}:
            taken |= {"api_key", "api_key_file"}
        for variable, option in _OPTION_OF_VARIABLE.items():
            value = environ.get(variable, "").strip()
            if value and option not in taken:
                options[option] = value
                source[option] = variable
        try:
            return cls.model_validate({**options, **overrides})
        except ValidationError as exc:
            message = describe_validation_error(exc, "settings of the openai adapter")
            for option, variable in source.items():
                message = message.replace(f" {option}:", f" {option} (from {variable}):")
            raise ConfigurationError(message) from exc
