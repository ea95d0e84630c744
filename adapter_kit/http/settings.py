"""How to connect to an engine over HTTP, and what an answer may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from adapter_kit.tls import TlsSettings

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class HttpSettings(BaseModel):
    """Bounds, pool, proxy and TLS of an `HttpClient`. The defaults suit an engine in the same data centre."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tls: TlsSettings = Field(default_factory=TlsSettings, description="files for https, read again when they change")
    connect_timeout_s: Seconds = Field(default=5.0, description="for name, connection, proxy and TLS together")
    max_connections: Count = Field(default=4096, description="requests under way at once; more wait for their turn")
    keep_idle: Annotated[int, Field(ge=0)] = Field(default=256, description="connections kept open for later")
    keep_idle_s: Seconds = Field(default=15.0, description="how long; less where the server's Keep-Alive says less")
    window_bytes: Count = Field(default=256 * 1024, description="of one answer, unread, before reading pauses")
    max_head_bytes: Count = Field(default=64 * 1024, description="status line and headers; trailers too")
    max_headers: Count = 256
    max_redirects: Annotated[int, Field(ge=0)] = Field(default=5, description="followed within the origin only")
    accept_compression: bool = Field(default=False, description="let the server pack its answers: text only gains")
    compression: Literal["gzip", "deflate"] | None = Field(default=None, description="pack request bodies")
    proxy: SecretStr | None = Field(
        default=None, description="http://[user:password@]host:port; without it the environment's, if any"
    )
    proxy_from_environment: bool = Field(
        default=True, description="honour HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; never for loopback"
    )
