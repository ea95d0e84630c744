"""The certificate that the host is reached by: taken anew when its files change, without a restart."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from adapter_kit.certificates import expires_at
from adapter_kit.secret_file import WatchedFiles
from orchestrator.config import TlsSettings

if TYPE_CHECKING:
    from orchestrator.host import Orchestrator
    from orchestrator.http.server import Server

_log = logging.getLogger("orchestrator.http.certificate")

LOOK_EVERY_S = 10.0


class ServedCertificate:
    """Watches the files of `server.tls`. New connections get the new certificate, those that are open keep theirs."""

    def __init__(self, tls: TlsSettings, servers: Sequence[Server], orchestrator: Orchestrator) -> None:
        self._tls = tls
        self._servers = servers
        self._orchestrator = orchestrator
        self._files = WatchedFiles(tls.certificate, tls.key)
        self._files.mark()
        self._told = ""
        self._read()

    async def watch(self, every_s: float = LOOK_EVERY_S) -> None:
        """Look from time to time, for ever."""
        while True:
            await anyio.sleep(every_s)
            self.look()

    def look(self) -> None:
        """Take new files, if there are any that fit together, and tell when the certificate ends."""
        if self._files.changed() and self._take():
            self._files.mark()
        self._orchestrator.changes.look_at_own_certificate(self._orchestrator.certificate_expires_at)

    def _take(self) -> bool:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._tls.certificate, self._tls.key)
            for server in self._servers:
                if server.config.ssl is not None:
                    server.config.ssl.load_cert_chain(self._tls.certificate, self._tls.key)
        except (OSError, ssl.SSLError) as exc:  # half replaced, or wrong: the old one serves until they fit
            if (news := exc.strerror or type(exc).__name__) != self._told:
                self._told = news
                _log.warning("the new files of server.tls cannot be used, the old certificate serves on: %s", news)
            return False
        self._told = ""
        self._read()
        return True

    def _read(self) -> None:
        try:
            self._orchestrator.certificate_expires_at = expires_at(self._tls.certificate.read_bytes())
        except OSError:
            self._orchestrator.certificate_expires_at = None
        self._orchestrator.changes.look_at_own_certificate(self._orchestrator.certificate_expires_at)
