"""What a serving host is told beyond its pools."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from orchestrator.config.settings import Frozen, Identifier, OrchestratorSettings, Seconds


class ApiKeySettings(Frozen):
    """One client. The key itself is nowhere: make the digest with `printf %s "$KEY" | sha256sum`."""

    name: Identifier
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(repr=False)
    models: tuple[str, ...] = Field(default=(), description="the models it may use; empty: all")
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1, description="generated tokens")
    watch: bool = Field(default=False, description="may read metrics, pools and the rollout report")
    admin: bool = Field(default=False, description="may do that, drain, reload, and see everybody's tasks")


class TlsSettings(Frozen):
    """Certificate chain and private key, in PEM files."""

    certificate: Path
    key: Path


class LimitSettings(Frozen):
    """What a client may cost."""

    max_body_bytes: int = Field(default=32 * 2**20, ge=1024, description="of one body, also once it is unpacked")
    max_pending_bytes: int = Field(
        default=2**30, ge=1024, description="of the bodies of all requests and kept tasks that are not done, together"
    )
    max_inflation: int = Field(
        default=100, ge=1, description="how many times a compressed body may grow, beyond its first MiB"
    )
    max_json_values: int = Field(
        default=100_000, ge=1000, description="values in a JSON body; numbers of a tensor, and token ids, do not count"
    )
    max_choices: int = Field(
        default=128, ge=1, description="answers to one completion or chat: prompts times `n`; each is a task of its own"
    )
    max_header_bytes: int = Field(default=64 * 1024, ge=1024, description="of all headers of a request")
    header_timeout_s: Seconds = Field(default=10.0, description="from the connection to the end of the headers")
    body_timeout_s: Seconds = Field(default=30.0, description="from the headers to the end of the body")
    write_timeout_s: Seconds = Field(
        default=30.0, description="longest time a client may take none of what it is sent; then its task is cancelled"
    )
    max_connections: int = Field(default=10_000, ge=1)
    keep_tasks: int = Field(default=1000, ge=0, description="tasks kept for clients that went away, at a time")
    keep_events: int = Field(default=20_000, ge=1, description="events kept per such task; the oldest go first")
    keep_bytes: int = Field(
        default=256 * 2**20,
        ge=1024,
        description="of events kept of all such tasks; the oldest tasks that ended go first",
    )
    keep_task_bytes: int = Field(default=8 * 2**20, ge=1024, description="of events kept per such task")
    keep_s: Seconds = Field(default=300.0, description="how long such a task can be read after its end")


def is_loopback(host: str) -> bool:
    """Return whether a name or address means this machine, wherever it is looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # https://www.rfc-editor.org/rfc/rfc6761#section-6.3
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})


class ServerSettings(Frozen):
    """The HTTP server. It listens on the loopback interface unless it is told otherwise."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0: any free port")
    admin_port: int | None = Field(
        default=None, ge=0, le=65535, description="serve metrics, pools and the status page on this port instead"
    )
    tls: TlsSettings | None = None
    api_keys: tuple[ApiKeySettings, ...] = ()
    allow_anonymous: bool = Field(default=False, description="serve beyond loopback without any API key")
    cors_origins: tuple[str, ...] = Field(default=(), description="origins whose pages may call; none by default")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="names by which a host on loopback without keys may be called, beside those of loopback; `*`: any",
    )
    session_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$",
        description="a header that names the session of a request, beside X-Session-Affinity, and wins over it",
    )
    unknown_fields: Literal["ignore", "refuse"] = Field(
        default="ignore",
        description="what becomes of fields of OpenAI's requests that nobody here knows; those that are ignored are "
        "named in X-Ignored-Fields",
    )
    heartbeat_s: Seconds = Field(default=15.0, description="longest silence of an event stream")
    shutdown_grace_s: Seconds = Field(default=30.0, description="how long running tasks may go on after SIGTERM")
    limits: LimitSettings = LimitSettings()

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @model_validator(mode="after")
    def _is_not_open_to_everybody_by_accident(self) -> Self:
        if not (self.is_loopback or self.api_keys or self.allow_anonymous):
            raise ValueError(
                f"host {self.host!r} is reachable from other machines and there are no api_keys: "
                "add one, or say allow_anonymous = true"
            )
        return self

    @field_validator("session_header")
    @classmethod
    def _is_no_secret(cls, name: str | None) -> str | None:
        if name is not None and name.lower() in _SECRET_HEADERS:
            raise ValueError(f"{name} carries a secret, and sessions stand in logs: name another header")
        return name

    @model_validator(mode="after")
    def _ports_and_keys_are_told_apart(self) -> Self:
        if self.admin_port is not None and self.admin_port == self.port != 0:
            raise ValueError(f"port and admin_port are both {self.port}; choose another, or leave admin_port out")
        names: dict[str, str] = {}
        for key in self.api_keys:
            if names.setdefault(key.sha256, key.name) is not key.name:
                raise ValueError(f"api_keys {names[key.sha256]!r} and {key.name!r} are the same key: take one out")
        return self


class LogSettings(Frozen):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class TracingSettings(Frozen):
    """Where a span of each task is sent, by OTLP over HTTP. Needs the extra `otel`; off unless enabled."""

    enabled: bool = False
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="as in http://localhost:4318/v1/traces; what OTEL_EXPORTER_OTLP_ENDPOINT says when absent",
    )
    service_name: str = Field(default="worker-adapter", min_length=1)
    sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="of the tasks whose clients did not decide it themselves"
    )


class HistorySettings(Frozen):
    """How much of a session's conversation is kept for tasks that ask for their `history`."""

    ttl_s: Seconds = 600.0
    turns: int = Field(default=8, ge=1, description="turns of question and answer")
    limit: int = Field(default=10_000, ge=1, description="sessions; the least recently used one goes first")
    max_bytes: int = Field(default=256 * 2**20, ge=1024, description="of all sessions; the same goes first")
    session_bytes: int = Field(
        default=4 * 2**20,
        ge=1024,
        description="of one session; its oldest turns go first, and messages beyond are refused",
    )


class ResponsesSettings(Frozen):
    """How many of the responses that `/v1/responses` made are kept, to be read again and gone on from."""

    ttl_s: Seconds = Field(default=86_400.0, description="after the last use of each")
    limit: int = Field(default=10_000, ge=1, description="responses; the least recently used one goes first")
    max_bytes: int = Field(
        default=256 * 2**20,
        ge=1024,
        description="of all, with what was said before them; the same goes first",
    )
    conversation_bytes: int = Field(
        default=4 * 2**20, ge=1024, description="of one conversation; a response that makes it larger is not kept"
    )


class RetentionSettings(Frozen):
    """A file in which kept tasks and responses survive the host. It holds what models said: treat it as you treat
    them."""

    file: Path | None = Field(default=None, description="an SQLite file of this host's own; none by default")
    max_bytes: int = Field(default=256 * 2**20, ge=2**20, description="events it may hold; the oldest tasks go first")
    max_age_s: Seconds = Field(default=86_400.0, description="how long after its end a task can be read")


class HostSettings(OrchestratorSettings):
    """Everything in `orchestrator.toml`."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    history: HistorySettings = HistorySettings()
    responses: ResponsesSettings = ResponsesSettings()
    retention: RetentionSettings = RetentionSettings()
