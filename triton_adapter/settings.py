"""How to reach a Triton and how to treat it, from arguments or the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)

from adapter_api import ConfigurationError
from adapter_api.task import describe_validation_error
from adapter_kit.answers import CallsBy, ThoughtsBy
from adapter_kit.chat_template import Template, read_chat_template
from adapter_kit.tls import TlsSettings
from triton_adapter.address import Address, Way, canonical, parse_address, scheme_of

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_OPTION_OF_VARIABLE = {
    "TRITON_URL": "url",
    "TRITON_HTTP_URL": "http_url",
    "TRITON_PROTOCOL": "protocol",
    "TRITON_TIMEOUT": "timeout_s",
    "TRITON_MODEL": "model",
    "TRITON_MAX_RETRIES": "max_retries",
    "TRITON_CONFIDENCE_THRESHOLD": "confidence_threshold",
    "TRITON_ENABLED": "enabled",
    # The orchestrator's own names win over the generic ones.
    "ORCHD_TRITON_URL": "url",
    "ORCHD_TRITON_POOL": "pool_id",
    "ORCHD_TRITON_REPLICA": "replica_id",
}

_HTTP_SCHEMES = frozenset({"http+v2", "https+v2"})
_PLAIN_SCHEMES = _HTTP_SCHEMES | {"grpc", "grpcs"}
"""Those that leave no doubt what is spoken there."""


def _frozen(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


JsonMap = Annotated[Mapping[str, JsonValue], AfterValidator(_frozen), PlainSerializer(dict)]
StringMap = Annotated[Mapping[str, str], AfterValidator(_frozen), PlainSerializer(dict)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ModelOverride(_Settings):
    """What a user knows better about one model than its configuration tells.

    `inputs` maps a task's field to the tensor or request parameter that takes it (`prompt` → `text`,
    `max_tokens` → `parameter:max_tokens`); `outputs` maps `text`, `finish_reason`, `tokens_in` or `tokens_out` to an
    output.
    """

    dialect: str | None = Field(default=None, description="the dialect to speak, whatever the configuration looks like")
    inputs: StringMap = Field(default_factory=_nothing)
    outputs: StringMap = Field(default_factory=_nothing)
    cumulative: bool | None = Field(default=None, description="each response repeats the text so far")
    tokenizer: Path | None = Field(default=None, description="a tokenizer.json, for models that take token ids")
    chat_template: str | Path | None = Field(
        default=None,
        repr=False,
        description="makes a prompt of messages: a jinja2 template, or where one is (a file, a tokenizer_config.json, "
        "the folder of a model)",
    )
    chat_template_kwargs: JsonMap = Field(
        default_factory=_nothing, description="values that the template finds, as enable_thinking; a task's own win"
    )
    tool_parser: CallsBy = Field(
        default="auto",
        description="how the model writes the tool calls that the chat template teaches it; `auto`: told from the "
        "template; `none`: it takes no tools; the names are in docs/tool-calls.md",
    )
    reasoning_parser: ThoughtsBy = Field(
        default="none",
        description="the marks of thoughts in the text: `think` is <think>…</think> before the answer to messages; "
        "`auto`: told from the template; the names are in docs/tool-calls.md",
    )

    @cached_property
    def template(self) -> Template:
        """What makes a prompt of messages; read once."""
        return read_chat_template(self.chat_template, self.chat_template_kwargs)

    @model_validator(mode="after")
    def _template_can_be_used(self) -> Self:
        try:
            _ = self.template
        except ConfigurationError as exc:
            raise ValueError(f"chat_template: {exc.message}") from exc
        return self


OverrideMap = Annotated[Mapping[str, ModelOverride], AfterValidator(_frozen), PlainSerializer(dict)]


class RestrictedToken(_Settings):
    """What a restricted server was started with: `--grpc-restricted-protocol=<list>:<key>=<value>`, or
    `--http-restricted-api`."""

    key: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    value: SecretStr


class TritonSettings(_Settings):
    """Settings of a `TritonAdapter`.

    Times are in seconds. A task is stopped by whichever deadline runs out first: its own `timeout_s` (else the one
    here), `first_token_timeout_s` until the first output, `inter_token_timeout_s` between two outputs of a stream.
    """

    url: str = Field(
        default="localhost:8001",
        description="grpc://host:port, grpcs:// for TLS; http+v2://host:port, https+v2://, for HTTP",
    )
    http_url: str = Field(
        default="localhost:8000", description="Triton's HTTP port, for `protocol` http; without it `url` is taken"
    )
    protocol: Way = Field(default="grpc", description="grpc or http; the scheme of `url` may say so as well")
    transport: Literal["auto", "h2", "grpcio"] = Field(
        default="auto", description="what carries gRPC: our own HTTP/2, grpcio, or what fits the address"
    )
    pool_id: str = "default"
    replica_id: str = "r0"
    model: str | None = Field(default=None, min_length=1, description="the model of clients that name none")
    models: OverrideMap = Field(default_factory=_nothing, description="overrides, by model")
    enabled: bool = Field(default=False, description="for hosts that make this adapter optional; not read here")
    confidence_threshold: float = Field(default=0.5, ge=0, le=1, description="for detection clients; not read here")

    connect_timeout_s: Seconds = 5.0
    control_timeout_s: Seconds = Field(default=5.0, description="for health, metadata, cancel, each")
    load_timeout_s: Seconds = Field(default=600.0, description="for loading a model, which may take long")
    first_token_timeout_s: Seconds = 30.0
    inter_token_timeout_s: Seconds = 20.0
    timeout_s: Seconds = Field(default=60.0, description="the whole task, when it does not say itself")
    drain_timeout_s: Seconds = Field(
        default=60.0, description="how long a cancelled slot the engine may still work on counts as busy"
    )
    max_retries: int = Field(default=3, ge=0, le=20, description="repetitions of what never reached the engine")
    metadata_ttl_s: Seconds = Field(default=60.0, description="how long a model's configuration is believed")
    max_message_bytes: int = Field(default=-1, ge=-1, description="largest message; -1: no limit")
    max_concurrent_cancels: int = Field(default=64, ge=1, description="cancels under way in the engine at once")
    compression: Literal["gzip", "deflate"] | None = Field(default=None, description="of what we send")
    shared_memory: bool = Field(default=False, description="pass large tensors by system shared memory on this host")
    shared_memory_min_bytes: int = Field(default=1 << 20, ge=1)

    tls: TlsSettings = TlsSettings()
    restricted_token: RestrictedToken | None = None
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = Field(default=None, description="read again when it changes on disk")

    @model_validator(mode="before")
    @classmethod
    def _choose_the_way(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if value.get("protocol") == "openai":
            raise ConfigurationError(
                "protocol 'openai' is another adapter's: take `openai`, with an http:// URL; this one speaks 'grpc' "
                "and 'http'"
            )
        url, http_url = value.get("url"), value.get("http_url")
        if isinstance(url, str) and scheme_of(url) in _HTTP_SCHEMES:
            value, http_url = {"protocol": "http", **value}, url
        if value.get("protocol") != "http":
            return value
        # One URL of HTTP is enough; `http_url` stands beside one of gRPC. Both then say where the adapter goes.
        given = next((each for each in (http_url, url) if each is not None), cls.model_fields["http_url"].default)
        if isinstance(given, str):
            given = canonical(given)
        return {**value, "url": given, "http_url": given}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        address = self.address
        if self.bearer_token is not None and self.bearer_token_file is not None:
            raise ValueError("give bearer_token or bearer_token_file, not both")
        if not address.tls and self.tls != TlsSettings():
            wanted = "grpcs" if address.way == "grpc" else "https+v2"
            raise ValueError(f"TLS files are given but the URL is plaintext; write {wanted}://")
        return self

    @property
    def address(self) -> Address:
        """Where the engine listens."""
        return parse_address(self.url, self.protocol)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Self:
        """Return the settings in environment variables; `overrides` win over them.

        Read are `ORCHD_TRITON_URL`, `_POOL`, `_REPLICA`, and `TRITON_URL`, `_HTTP_URL`, `_PROTOCOL`, `_TIMEOUT`,
        `_MODEL`, `_MAX_RETRIES`, `_CONFIDENCE_THRESHOLD`, `_ENABLED`; empty ones count as unset.

        Raises:
            ConfigurationError: A value is wrong; the message names the variable or option.
        """
        options: dict[str, Any] = {}
        source: dict[str, str] = {}
        # Who names an engine here does not mean the one of the environment, nor how that is spoken to.
        settled = set() if "url" not in overrides else {"http_url"}
        if scheme_of(str(overrides.get("url", ""))) in _PLAIN_SCHEMES:
            settled.add("protocol")
        for variable, option in _OPTION_OF_VARIABLE.items():
            value = environ.get(variable, "").strip()
            if value and option not in overrides and option not in settled:
                options[option] = value.lower() if option in ("protocol", "enabled") else value
                source[option] = variable
        try:
            return cls.model_validate({**options, **overrides})
        except ValidationError as exc:
            message = describe_validation_error(exc, "settings of the triton adapter")
            for option, variable in source.items():
                message = message.replace(f" {option}:", f" {option} (from {variable}):")
            raise ConfigurationError(message) from exc
