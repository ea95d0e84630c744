"""TLS files: whom to trust, who we are, and taking new ones while we run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapter_api import ConfigurationError
from adapter_kit.certificates import expires_at
from adapter_kit.secret_file import WatchedFiles

if TYPE_CHECKING:
    import ssl


class TlsSettings(BaseModel):
    """Files for a TLS connection (PEM). They are read again when they change on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ca_file: Path | None = Field(default=None, description="whom to trust; the system's store when absent")
    cert_file: Path | None = Field(default=None, description="our certificate, for a server that asks for one")
    key_file: Path | None = None
    server_name: str | None = Field(default=None, description="the name to expect in the server's certificate")

    @model_validator(mode="after")
    def _pairs_certificate_and_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give cert_file and key_file together")
        return self


class TlsMaterial:
    """The TLS files, all of one generation."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._watch = WatchedFiles(tls.ca_file, tls.cert_file, tls.key_file)
        self.ca: bytes | None = None
        self.certificate: bytes | None = None
        self.key: bytes | None = None
        self.context: ssl.SSLContext
        """The same for Python's `ssl`: a client's, which verifies."""
        self._load()

    @property
    def certificate_expires_at(self) -> float | None:
        """When our certificate ends, in seconds since the epoch; `None` without one."""
        return None if self.certificate is None else expires_at(self.certificate)

    def refresh(self) -> bool:
        """Take new files when they are there and fit together; return whether anything is new."""
        if not self._watch.changed():
            return False
        before = (self.ca, self.certificate, self.key)
        try:
            self._load()
        except ConfigurationError:
            # Half replaced: a certificate without its key, or a file that is still being written. Look again later.
            return False
        return before != (self.ca, self.certificate, self.key)

    def _load(self) -> None:
        tls = self._tls
        context = self._check()
        ca, certificate, key = (_read(path) for path in (tls.ca_file, tls.cert_file, tls.key_file))
        self._watch.mark()
        self.ca, self.certificate, self.key, self.context = ca, certificate, key, context

    def _check(self) -> ssl.SSLContext:
        import ssl  # late: whoever only reads settings needs none of it

        tls = self._tls
        try:
            context = ssl.create_default_context(cafile=tls.ca_file)
            if tls.cert_file is not None:
                context.load_cert_chain(tls.cert_file, tls.key_file)
        except (OSError, ssl.SSLError) as exc:
            names = ", ".join(str(path) for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None)
            raise ConfigurationError(f"the TLS files cannot be used ({names}): {exc}") from exc
        return context


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
