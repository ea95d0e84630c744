"""What to do about a peer that closes a new connection without a word: how we called must tell."""

from __future__ import annotations

import time

from adapter_kit.tls import TlsMaterial


def hung_up(tls: TlsMaterial | None) -> str:
    """Return the advice; `tls` is how we called, `None` for plaintext."""
    if tls is None:
        return (
            "what listens there closes the connection at once: if it wants TLS, write grpcs://; else it is no gRPC "
            "port (Triton's is usually 8001)"
        )
    ends = tls.certificate_expires_at
    if tls.certificate is None:
        return (
            "the server closes the TLS connection at once: it wants a certificate of ours (`tls.cert_file`, "
            "`tls.key_file`), or it is no gRPC port"
        )
    if ends is not None and ends < time.time():
        ended = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
        return f"our certificate (`tls.cert_file`) ended on {ended}: renew it"
    return (
        "the server closes the TLS connection at once: it does not accept our certificate (`tls.cert_file`); check "
        "which CA the server trusts"
    )
