"""JSON as v2 servers write it, which is not always JSON: Triton puts a tensor's bytes into strings as they are."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def decode(data: bytes | bytearray | str) -> Any:
    """Return the value in `data`; bytes that are no UTF-8 become lone surrogates, and NaN and Infinity are numbers.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # A tenth as fast: for what msgspec is too strict for.
        return json.loads(data.decode("utf-8", "surrogateescape") if not isinstance(data, str) else data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
