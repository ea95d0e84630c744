"""Messages in the JSON form that Triton's HTTP face gives them. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message


def json_form(message: Message) -> dict[str, Any]:
    """Return what JSON holds of a message: the protocol's own names, enums by name, whole numbers as numbers.

    A field without a value stands there with its default, but for a message or a choice that was not made.
    """
    fields: Sequence[Any] = message.DESCRIPTOR.fields  # of one of two classes, by protobuf's implementation
    return {
        field.name: _field(field, getattr(message, field.name))
        for field in fields
        if not field.has_presence or message.HasField(field.name)
    }


def _field(field: FieldDescriptor, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        entry = kind.fields_by_name["value"]
        return {str(key): _value(entry, value[key]) for key in sorted(value)}
    return [_value(field, each) for each in value] if field.is_repeated else _value(field, value)


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return json_form(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name  # a newer server's is told by its number
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _as_written(value)
    return value


def _as_written(value: float) -> float:
    """Return the shortest number that a 32-bit one may have been written as: 0.1, rather than 0.10000000149."""
    single = struct.pack("f", value)
    for digits in range(6, 9):
        written = float(f"{value:.{digits}g}")
        if struct.pack("f", written) == single:
            return written
    return value
