"""Secrets and certificates that are read again when their files change."""

from __future__ import annotations

import ssl
from pathlib import Path
from time import monotonic

from adapter_api import ConfigurationError
from triton_adapter.settings import TlsSettings, TritonSettings

_LOOK_EVERY_S = 1.0


class WatchedFiles:
    """Says whether files changed since they were last read; looks at the disk at most once a second."""

    def __init__(self, *paths: Path | None) -> None:
        self._paths = tuple(path for path in paths if path is not None)
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._looked = float("-inf")

    def changed(self) -> bool:
        """Return whether any file is not what it was at the last `mark`."""
        if not self._paths or monotonic() - self._looked < _LOOK_EVERY_S:
            return False
        self._looked = monotonic()
        return self._stamps() != self._seen

    def mark(self) -> None:
        """Remember the files as they are now."""
        self._seen = self._stamps()
        self._looked = monotonic()

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        stamps = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)


class Metadata:
    """The metadata of every call: the restricted-protocol key and the bearer token."""

    def __init__(self, settings: TritonSettings) -> None:
        fixed: list[tuple[str, str]] = []
        if settings.restricted_token is not None:
            token = settings.restricted_token
            fixed.append((f"triton-grpc-protocol-{token.key.lower()}", token.value.get_secret_value()))
        self._fixed = tuple(fixed)
        self._file = settings.bearer_token_file
        self._watch = WatchedFiles(self._file)
        self._entries: tuple[tuple[str, str], ...] = self._fixed
        if settings.bearer_token is not None:
            self._entries = (*self._fixed, ("authorization", f"Bearer {settings.bearer_token.get_secret_value()}"))
        elif self._file is not None:
            self._read()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the tokens by themselves."""
        return tuple(value.removeprefix("Bearer ") for _, value in self._entries)

    def entries(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata as it is now."""
        if self._file is not None and self._watch.changed():
            self._read()
        return self._entries

    def _read(self) -> None:
        assert self._file is not None
        self._watch.mark()
        try:
            token = self._file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as exc:
            if self._entries is not self._fixed:
                return  # the file is being replaced: the old token is good until the new one is there
            raise ConfigurationError(
                f"cannot read bearer_token_file {str(self._file)!r}: {type(exc).__name__}"
            ) from exc
        if token:
            self._entries = (*self._fixed, ("authorization", f"Bearer {token}"))


class TlsMaterial:
    """The bytes of the TLS files, all of one generation."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._watch = WatchedFiles(tls.ca_file, tls.cert_file, tls.key_file)
        self.ca: bytes | None = None
        self.certificate: bytes | None = None
        self.key: bytes | None = None
        self._load()

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
        self._check()
        ca, certificate, key = (_read(path) for path in (tls.ca_file, tls.cert_file, tls.key_file))
        self._watch.mark()
        self.ca, self.certificate, self.key = ca, certificate, key

    def _check(self) -> None:
        tls = self._tls
        try:
            context = ssl.create_default_context(cafile=tls.ca_file)
            if tls.cert_file is not None:
                context.load_cert_chain(tls.cert_file, tls.key_file)
        except (OSError, ssl.SSLError) as exc:
            names = ", ".join(str(path) for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None)
            raise ConfigurationError(f"the TLS files cannot be used ({names}): {exc}") from exc


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
