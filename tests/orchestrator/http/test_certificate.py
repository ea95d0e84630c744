"""The host's own certificate is taken anew when its files change, and its end is known."""

from __future__ import annotations

import datetime
import logging
import ssl
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.streams.tls import TLSAttribute

from adapter_kit.certificates import expires_at
from orchestrator.http.certificate import ServedCertificate
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.observability.test_metrics import value

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3062-022")]

AUTHORITY = trustme.CA()
LABELS = {"engine": "", "engine_version": "", "pool_id": "", "replica_id": ""}


def write(directory: Path, days: int) -> float:
    """Put a new certificate there and return when it ends."""
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    issued = AUTHORITY.issue_cert("127.0.0.1", not_after=ends)
    (directory / "cert.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(directory / "key.pem")
    return ends.replace(microsecond=0).timestamp()


async def served(host: Host) -> float | None:
    """When the certificate ends that a new connection gets."""
    context = ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())
    port = int(host.url.rpartition(":")[2])
    stream = await anyio.connect_tcp("127.0.0.1", port, ssl_context=context, tls_hostname="127.0.0.1")
    async with stream:
        der = stream.extra(TLSAttribute.peer_certificate_binary)
    assert der is not None
    return expires_at(ssl.DER_cert_to_PEM_cert(der).encode())


async def test_a_renewed_certificate_is_served_without_a_restart(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("orchestrator.http.certificate.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(ServedCertificate.watch, "__defaults__", (0.05,))
    monkeypatch.setattr("adapter_kit.secret_file._LOOK_EVERY_S", 0.0)
    first = write(tmp_path, 3)
    tls = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    async with serve(server={"tls": tls}) as host:
        assert await served(host) == first
        assert value(host.orchestrator, "certificate_expiry_timestamp_seconds", **LABELS) == first
        second = write(tmp_path, 300)
        with anyio.fail_after(20):
            while await served(host) != second:  # noqa: ASYNC110 - it looks from time to time
                await anyio.sleep(0.05)
        assert value(host.orchestrator, "certificate_expiry_timestamp_seconds", **LABELS) == second
        (tmp_path / "key.pem").write_text("half")
        await anyio.sleep(0.2)
        assert await served(host) == second

    told = [
        record.__dict__["change"] for record in caplog.records if "certificate" in record.__dict__.get("change", "")
    ]
    assert told == ["certificate_ends_soon", "certificate_renewed"]
