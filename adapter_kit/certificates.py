"""When a certificate ends. The standard library tells it of a peer's certificate only, and not of a file's.

Reads as much of X.509 as leads to the validity (RFC 5280, 4.1): one sequence in another, a few fields skipped.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_SEQUENCE, _EXPLICIT_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def expires_at(pem: bytes) -> float | None:
    """Return when the first certificate of a PEM text, which is its holder's own, ends, in seconds since the epoch.

    `None` when there is none, or it is none that we can read.
    """
    found = _PEM.search(pem)
    if found is None:
        return None
    try:
        return _not_after(b64decode(found[1]))
    except (binascii.Error, ValueError, IndexError):
        return None


def _not_after(certificate: bytes) -> float:
    _, body, _ = _element(certificate, _SEQUENCE)
    _, body, _ = _element(body, _SEQUENCE)
    tag, _, rest = _element(body)
    if tag == _EXPLICIT_VERSION:
        _, _, rest = _element(rest)  # the serial number
    _, _, rest = _element(rest, _SEQUENCE)  # the algorithm of the signature
    _, _, rest = _element(rest, _SEQUENCE)  # the issuer
    _, validity, _ = _element(rest, _SEQUENCE)
    _, _, rest = _element(validity)  # from when
    tag, text, _ = _element(rest)
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("no time")
    digits = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 and above are of the last century
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(data: bytes, expected: int | None = None) -> tuple[int, bytes, bytes]:
    """Return the tag and content of the first DER element, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if expected is not None and tag != expected:
        raise ValueError("another element was expected")
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut short")
    return tag, data[start : start + length], data[start + length :]
