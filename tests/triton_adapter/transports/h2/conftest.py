"""The peers of these tests, in plain text and, at length, over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme

from tests.triton_adapter.transports.h2 import peer


@pytest.fixture(scope="session")
def served() -> Iterator[peer.Served]:
    """What a peer shows over TLS, and what it is believed by."""
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    with ca.cert_pem.tempfile() as authority:
        yield peer.Served(context, authority)


@pytest.fixture(autouse=True, params=["plain", pytest.param("tls", marks=pytest.mark.long)])
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the peers speak that are told nothing else."""
    if request.param == "tls":
        monkeypatch.setattr(peer, "SERVED", request.getfixturevalue("served"))
