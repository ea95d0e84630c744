"""Elements of tensors in JSON, however they are nested: read and written in pieces, each of which takes little time and
little memory at once. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from orchestrator.http.json_bounds import after_text

_STEP = 2**16
_ELEMENTS = 2**13
_LONGEST_NUMBER = 1024
_EXACT = 2**53
"""Beyond it, a number with a point or an exponent may be another one than was meant."""
_WORDS = re.compile(rb'"|-?Infinity|NaN|1e9999')
_LONGEST_WORD = len(b"-Infinity")
_STAND_INS = {b"NaN": b"1e99991", b"-Infinity": b"-1e99992", b"Infinity": b"1e99992"}
_STAND_IN = b"1e9999"
"""No number that anybody means: it is far beyond every datatype."""
_BRACKETS_AND_SPACE = b"[] \t\r\n"
_OPEN, _CLOSE = b"[]"
_DECODERS: dict[str, msgspec.json.Decoder[list[Any]]] = {
    "b": msgspec.json.Decoder(list[bool | int]),
    "i": msgspec.json.Decoder(list[int]),
    "u": msgspec.json.Decoder(list[int]),
    "f": msgspec.json.Decoder(list[int | float]),
}
"""By the kind of numpy's dtype; `true` is no number, and a number no text."""


def with_stand_ins(text: bytes) -> bytes | None:
    """Return JSON in which `NaN` and `Infinity`, which Triton takes and writes, are numbers that `numbers_in` knows.

    `None` when there are none of them, or when it has such a number of its own.
    """
    pieces: list[bytes] = []
    at = kept = 0
    while at < len(text):
        found = _WORDS.search(text, at, at + _STEP)
        if found is None:
            at += _STEP - _LONGEST_WORD  # one may be cut in two here
        elif found[0] == b'"':
            at = after_text(text, found.end())
        elif (stand_in := _STAND_INS.get(found[0])) is None:
            return None
        else:
            pieces += (text[kept : found.start()], stand_in)
            at = kept = found.end()
    return b"".join((*pieces, text[kept:])) if pieces else None


def numbers_in(data: msgspec.Raw, dtype: np.dtype[Any], depth: int) -> np.ndarray[Any, Any]:
    """Return the numbers of a list, in order, however they are nested, but not deeper than `depth`.

    Args:
        data: Valid JSON, as the decoder of the whole has found.
        dtype: What they are to be.
        depth: How many dimensions the tensor has.

    Raises:
        ValueError: Something in it is no number, or does not fit.
    """
    text = bytes(data)
    if b'"' in text or b"{" in text:
        raise ValueError("not all are numbers")
    _require_depth(text, max(depth, 1))
    pieces, carry = [], b""
    for at in range(0, len(text), _STEP):
        piece = carry + text[at : at + _STEP].translate(None, _BRACKETS_AND_SPACE)
        end = len(piece) if at + _STEP >= len(text) else piece.rfind(b",")
        carry = piece[end + 1 :] if end >= 0 else piece
        if len(carry) > _LONGEST_NUMBER:
            raise ValueError("no number is as long as that")
        if end > 0:
            pieces.append(_array(piece[:end], dtype))
    return np.concatenate(pieces) if pieces else np.empty(0, dtype)


def texts_in(data: msgspec.Raw, depth: int) -> list[str]:
    """Return the texts of a list, as `numbers_in` does; raises `TypeError` when something else is in it."""
    found: list[str] = []
    _collect(msgspec.json.decode(data), max(depth, 1), found)
    return found


def json_of_numbers(array: np.ndarray[Any, Any]) -> bytes:
    """Return the JSON list of a flat array of numbers; what is none or not finite is written as Triton writes it."""
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    encode = msgspec.json.encode if finite else _with_words
    pieces = [encode(array[at : at + _ELEMENTS].tolist())[1:-1] for at in range(0, len(array), _ELEMENTS)]
    return b"[" + b",".join(pieces) + b"]"


def json_of_texts(texts: Iterable[bytes]) -> bytes:
    """Return the JSON list of texts. Bytes that are no UTF-8 stay as they are, as at Triton: nothing is lost, and a
    character that a model cut in two is whole again for who joins the bytes."""
    return b"[" + b",".join(map(_json_of_text, texts)) + b"]"


def _json_of_text(text: bytes) -> bytes:
    try:
        return msgspec.json.encode(text.decode())
    except UnicodeDecodeError:
        quoted = json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False)
        return quoted.encode("utf-8", "surrogateescape")


def _with_words(numbers: list[float]) -> bytes:
    return json.dumps(numbers, separators=(",", ":")).encode()


def _array(listed: bytes, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if not listed.strip(b","):  # lists that hold nothing
        return np.empty(0, dtype)
    if dtype.kind == "f" and _STAND_IN in listed:
        return _array_with_words(listed, dtype)
    try:
        found = _decoded(b"[" + listed + b"]", dtype)
        if not _fit(found, dtype):
            raise ValueError(f"not all are {dtype.name}")
        with np.errstate(over="ignore"):
            array = np.asarray(found, dtype=dtype)
    except (msgspec.DecodeError, TypeError, OverflowError) as exc:
        raise ValueError(f"not all are {dtype.name}") from exc
    if dtype.kind == "f" and not np.isfinite(array).all():  # JSON has no infinity: it was too large a number
        raise ValueError("a number is too large")
    return array


def _array_with_words(listed: bytes, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    for word, stand_in in _STAND_INS.items():
        listed = listed.replace(stand_in, word)
    numbers = json.loads(b"[" + listed + b"]")
    if not all(type(each) in (int, float) for each in numbers):
        raise ValueError(f"not all are {dtype.name}")
    with np.errstate(over="ignore"):
        array = np.asarray(numbers, dtype=dtype)
    if np.isinf(array).sum() != listed.count(b"Infinity"):
        raise ValueError("a number is too large")
    return array


def _decoded(listed: bytes, dtype: np.dtype[Any]) -> list[Any]:
    """JSON has one kind of number: 1.0 and 1E2 are whole ones too, as they are in a task's fields."""
    if dtype.kind not in "iu" or not any(sign in listed for sign in b".eE"):
        return _DECODERS[dtype.kind].decode(listed)
    found = _DECODERS["f"].decode(listed)
    if not all(isinstance(each, int) or (each.is_integer() and abs(each) <= _EXACT) for each in found):
        raise ValueError(f"not all are {dtype.name}")
    return [int(each) for each in found]


def _fit(found: list[Any], dtype: np.dtype[Any]) -> bool:
    """numpy cuts numbers that are too large."""
    if dtype.kind == "b":
        return all(each in (0, 1) for each in found)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return bool(limits.min <= min(found) and max(found) <= limits.max)
    return True


def _require_depth(text: bytes, most: int) -> None:
    if text.count(b"[") <= most:
        return
    level = 0
    for at in range(0, len(text), 16 * _STEP):
        letters = np.frombuffer(text, dtype=np.uint8, count=min(16 * _STEP, len(text) - at), offset=at)
        levels = np.cumsum((letters == _OPEN).astype(np.int32) - (letters == _CLOSE).astype(np.int32)) + level
        if levels.max() > most:
            raise ValueError("it is nested deeper than its shape")
        level = int(levels[-1])


def _collect(data: Any, depth: int, found: list[str]) -> None:
    for each in data:
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, list) and depth > 1:
            _collect(each, depth - 1, found)
        else:
            raise TypeError("not all are texts")
