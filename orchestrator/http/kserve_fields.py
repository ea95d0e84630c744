"""The fields of a v2 request's JSON, one by one: what is in tensors must not become millions of objects. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import InvalidRequest
from adapter_api.bounds import MAX_PARAMETERS
from orchestrator.http.json_bounds import NAMES_AND_TEXTS, require_bounded
from orchestrator.http.reading import parse_value
from orchestrator.http.tensor_json import with_stand_ins

LONGEST_NAME = 256
"""Errors of engines quote names, and travel in headers."""
MAX_LISTS = 2**20
"""In the JSON of an inference: rows of a nested tensor, for one."""
_LONGEST_FIELD = 2**18
"""Bytes of anything but data: small enough to be parsed at once."""
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def head_of(head: bytes, values: int) -> dict[str, msgspec.Raw]:
    """Return the fields of the JSON part, unparsed; raises `InvalidRequest`."""
    what = "the inference header"
    require_bounded(head, what, values=values, depth=None, counted=NAMES_AND_TEXTS)
    require_bounded(head, what, values=MAX_LISTS, depth=None, counted=b"[", noun="lists")
    try:
        if not head.isascii():
            head.decode()
        return _FIELDS.decode(head)
    except RecursionError as exc:
        raise InvalidRequest(f"{what} is nested too deeply") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{what} is not UTF-8 text") from exc
    except msgspec.ValidationError as exc:
        raise InvalidRequest(f"{what} is not a JSON object") from exc
    except msgspec.MsgspecError as exc:
        if (finite := with_stand_ins(head)) is not None:
            return head_of(finite, values)
        raise InvalidRequest(f"{what} is not JSON: {exc}") from exc


def field_of(fields: Mapping[str, msgspec.Raw], name: str, what: str | None = None) -> Any:
    """Return the value of a field; `None` without it. Raises `InvalidRequest` for one that is absurdly long."""
    raw = fields.get(name)
    if raw is None:
        return None
    what = what or f"{name!r}"
    if memoryview(raw).nbytes > _LONGEST_FIELD:
        raise InvalidRequest(f"{what} is longer than {_LONGEST_FIELD} bytes")
    return parse_value(bytes(raw), what)


def flag_of(fields: dict[str, Any], name: str) -> bool:
    value = fields.pop(name, None)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name!r} must be true or false")
    return bool(value)


def number_of(fields: dict[str, Any], name: str, most: int = 2**63 - 1) -> int | None:
    value = fields.pop(name, None)
    if value is not None and (type(value) is not int or not 0 <= value <= most):
        raise InvalidRequest(f"{name!r} must be a whole number from 0 to {most}")
    return value


def text_of(fields: dict[str, Any], name: str, longest: int = 2**16) -> str:
    value = fields.pop(name, None)
    if value is not None and (not isinstance(value, str) or len(value) > longest):
        raise InvalidRequest(f"{name!r} must be a text of at most {longest} characters")
    return value or ""


def scalar_of(name: str, value: Any) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str):
        raise InvalidRequest(f"parameter {name[:LONGEST_NAME]!r} must be true, false, a number or a text")
    return value


def mapping_of(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be an object")
    if len(value) > MAX_PARAMETERS:
        raise InvalidRequest(f"{what} has {len(value)} fields; there may be {MAX_PARAMETERS}")
    return dict(value)
