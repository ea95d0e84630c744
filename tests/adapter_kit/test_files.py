"""Tokens and certificates in files that are replaced while they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from adapter_api import ConfigurationError
from adapter_kit import secret_file
from adapter_kit.secret_file import SecretFile
from adapter_kit.tls import TlsMaterial, TlsSettings

no_spec = "the kit's own part of ORCH-3056's rotation, which is tested with a server"


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "_LOOK_EVERY_S", 0.0)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_secret_is_read_again_when_it_changes_and_kept_while_it_cannot_be(tmp_path: Path) -> None:
    path = write(tmp_path / "token", "one\n")
    secret = SecretFile(path, setting="token_file")
    assert secret.value() == "one"

    write(path, "second\n")
    assert secret.value() == "second"
    path.unlink()
    assert secret.value() == "second"
    write(path, "")
    assert secret.value() == "second"


def test_a_secret_that_cannot_be_read_at_first_is_told_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="token_file"):
        SecretFile(tmp_path / "none", setting="token_file")


def test_certificates_are_taken_when_they_fit_and_not_before(tmp_path: Path) -> None:
    def issue(what: str) -> tuple[str, str]:
        certificate = trustme.CA().issue_cert(what)
        return certificate.cert_chain_pems[0].bytes().decode(), certificate.private_key_pem.bytes().decode()

    first, second = issue("a.example"), issue("b.example")
    cert, key = write(tmp_path / "cert.pem", first[0]), write(tmp_path / "key.pem", first[1])
    material = TlsMaterial(TlsSettings(cert_file=cert, key_file=key))

    write(cert, second[0])
    assert not material.refresh(), "its key is not there yet"
    assert material.certificate == first[0].encode()
    write(key, second[1])
    assert material.refresh()
    assert (material.certificate, material.key) == (second[0].encode(), second[1].encode())
    assert not material.refresh()


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        TlsMaterial(TlsSettings(ca_file=write(tmp_path / "ca.pem", "no certificate")))
    with pytest.raises(ValidationError, match="cert_file and key_file together"):
        TlsSettings(cert_file=tmp_path / "cert.pem")
