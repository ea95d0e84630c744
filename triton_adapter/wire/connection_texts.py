"""Texts about the connection, as gRPC's own client tells them: a part of the table in `texts`."""

from __future__ import annotations

from adapter_api import ConnectFailed, ConnectionLost, InvalidRequest, Unauthenticated
from triton_adapter.wire.text_rows import Compiled, Said, row

_DOWN = "start it, or correct the URL"
HUNG_UP = (
    "what listens there closes the connection at once: is it a gRPC port, does it want TLS (grpcs://), or a "
    "certificate of ours (`tls.cert_file`)?"
)
"""What to do about a peer that hangs up without a word, for whoever does not know how it was called."""
_UNVERIFIED = r"CERTIFICATE[ _]VERIFY[ _]FAILED"
_FIRST = "failed to connect to all addresses; last error: "
_TLS = f"{_FIRST}UNKNOWN: Ssl handshake failed: SSL_ERROR_SSL: error:1000: SSL routines:OPENSSL_internal:"


def _grpc(*texts: str) -> tuple[Said, ...]:
    return tuple(Said(text, "grpcio 1.85") for text in texts)


CONNECTION: tuple[Compiled, ...] = (
    row(_UNVERIFIED + r".*has expired", Unauthenticated,
         "the server's certificate, or one that signed it, has ended: renew it; or this machine's clock is wrong",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: certificate has expired")),
    row(_UNVERIFIED + r".*not yet valid", Unauthenticated,
         "the server's certificate is not valid yet: the clock of this machine, or of the one that made it, is wrong",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: certificate is not yet valid")),
    row(_UNVERIFIED + r".*revoked", Unauthenticated, "the server's certificate was revoked: it needs a new one",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: certificate revoked")),
    row(_UNVERIFIED + r".*(too (weak|small|short)|unsupported (certificate )?(purpose|public key)|unsuitable"
         r"|invalid CA|path length|unhandled critical)", Unauthenticated,
         "the server's certificate, or one that signed it, is not made for this: it needs a new one",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: unsupported certificate purpose")),
    row(_UNVERIFIED + r".*self.signed", Unauthenticated,
         "the server's certificate is signed by itself, or its CA is not known here: give that as `tls.ca_file`",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED: self signed certificate")),
    row(_UNVERIFIED, Unauthenticated, "the server's certificate is not signed by anybody `tls.ca_file` trusts",
         said=_grpc(f"{_TLS}CERTIFICATE_VERIFY_FAILED")),
    row(r"Hostname Verification Check failed|peer name .* is not in peer certificate", Unauthenticated,
         "the server's certificate is for another name; set `tls.server_name`",
         said=_grpc(f"{_FIRST}UNKNOWN: Hostname Verification Check failed.")),
    row(r"alert[ _]certificate[ _]expired", Unauthenticated,
         "our certificate (`tls.cert_file`) has ended: renew it; or the server's clock is wrong",
         said=_grpc(f"{_TLS}SSLV3_ALERT_CERTIFICATE_EXPIRED")),
    row(r"certificate[ _]required", Unauthenticated,
         "the server wants a certificate of ours: give `tls.cert_file` and `tls.key_file`",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: tlsv13 alert certificate required")),
    row(r"bad[ _]certificate|unknown[ _]ca\b|alert[ _]certificate[ _](unknown|revoked)|handshake[ _]failure"
         r"|access[ _]denied", Unauthenticated,
         "the server does not accept our certificate; check `tls.cert_file`, and which CA the server trusts",
         said=_grpc(f"{_TLS}TLSV1_ALERT_UNKNOWN_CA")),
    row(r"WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST", ConnectFailed,
         "the peer does not speak TLS; write grpc:// if it is plaintext", "UNAVAILABLE",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: Ssl handshake failed: WRONG_VERSION_NUMBER")),
    row(r"http1\.x server|Trying to connect an http1|received http2 header with status|SETTINGS frame"
         r"|connection preface|Failed parsing HTTP/2|frame of (unknown )?type|HTTP/1", ConnectFailed,
         "what answers there is not a gRPC server; Triton's gRPC port is usually 8001",
         said=_grpc(f"{_FIRST}UNAVAILABLE: ipv4:127.0.0.1:80: Trying to connect an http1.x server")),
    row(r"failed to connect to all addresses.*(Socket closed|Connection reset)", ConnectFailed,
         HUNG_UP,
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: Socket closed")),
    row(r"Connection refused", ConnectFailed, f"nothing listens there; {_DOWN}", "UNAVAILABLE",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused")),
    row(r"DNS resolution failed|Domain name not found|Could not contact DNS|name resolution", ConnectFailed,
         "the host name does not resolve; correct the URL", said=_grpc("DNS resolution failed for nohost:1")),
    row(r"failed to connect to all addresses|No route to host|Network is unreachable|connection attempt timed out"
         r"|connect timed? ?out", ConnectFailed, _DOWN, "UNAVAILABLE",
         said=_grpc(f"{_FIRST}UNKNOWN: ipv4:127.0.0.1:1: No route to host")),
    row(r"Received message larger than max|Sent message larger than max|message length .* exceeds", InvalidRequest,
         "raise `max_message_bytes`", said=_grpc("CLIENT: Received message larger than max (5242924 vs. 4194304)")),
    row(r"metadata size exceeds", InvalidRequest, "a token or a trace context is too large for a header",
         said=_grpc("received metadata size exceeds hard limit (9000 vs. 8192)")),
    row(r"Too many pings|ENHANCE_YOUR_CALM", ConnectionLost, "", "UNAVAILABLE", said=_grpc("Too many pings")),
    row(r"enter idle|Socket closed|Stream removed|GOAWAY|Connection reset|Broken pipe|recvmsg|sendmsg|EOF"
         r"|End of TCP stream|Endpoint closing|Transport closed|connection closed|RST_STREAM|max_age", ConnectionLost,
         "", "UNAVAILABLE", "CANCELLED", said=_grpc("Stream removed (Socket closed)", "enter idle", "GOAWAY received")),
    # With these codes models quote what happened to connections of their own: only gRPC's own words count.
    row(r"^(Stream removed|EOF)|RST_STREAM", ConnectionLost, "", "UNKNOWN", "INTERNAL",
         said=_grpc("Stream removed (RST_STREAM (Received RST_STREAM with error code 2))")),
)  # fmt: skip
