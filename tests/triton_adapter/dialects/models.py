"""The golden model configurations as schemas, and what goes to and comes from such models in plain values."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from adapter_api import End, TaskRequest, Token, TokenEvent
from triton_adapter.codec import read_numbers, text_elements
from triton_adapter.dialects import choose_dialect
from triton_adapter.engine.metadata import schema_from
from triton_adapter.schema import EncodedTask, ModelSchema, RawTensor, Reply
from triton_adapter.settings import ModelOverride
from triton_adapter.wire import v2_pb2 as v2

GOLDEN = Path(__file__).parent / "golden"


def schema(name: str, **changes: Any) -> ModelSchema:
    """Return the schema of a golden configuration, read as the adapter reads it from a server."""
    config = text_format.Parse((GOLDEN / f"{name}.pbtxt").read_text(), v2.ModelConfig())
    return replace(schema_from(v2.ModelMetadataResponse(name=config.name, versions=["1"]), config), **changes)


def task(**fields: Any) -> TaskRequest:
    return TaskRequest(
        **{"model": "m", "prompt": "Hello", **({"prompt": None} if "messages" in fields else {})} | fields
    )


def encode(model: ModelSchema, override: ModelOverride | None = None, /, **fields: Any) -> EncodedTask:
    return choose_dialect(model, override).dialect.encode(task(**fields), model)


def sent(encoded: EncodedTask) -> dict[str, Any]:
    """Return the values of the inputs, by name: a single one as itself, several as a list."""
    found: dict[str, Any] = {}
    for tensor in encoded.inputs:
        raw = RawTensor(tensor.datatype, tensor.shape, bytes(tensor.data))
        values: list[Any] = (
            [text.decode() for text in text_elements(raw.data)] if tensor.datatype == "BYTES" else [*read_numbers(raw)]
        )
        found[tensor.name] = values[0] if len(values) == 1 else values
    return found


def sampling(encoded: EncodedTask) -> dict[str, Any]:
    return dict(json.loads(sent(encoded)["sampling_parameters"]))


def tensor(value: Any, datatype: str | None = None, shape: tuple[int, ...] | None = None) -> RawTensor:
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], str | bytes):
        elements = [each.encode() if isinstance(each, str) else each for each in values]
        data = b"".join(len(each).to_bytes(4, "little") + each for each in elements)
        return RawTensor("BYTES", shape or (len(values),), data)
    letter, name = {"UINT32": ("I", "UINT32"), "FP32": ("f", "FP32")}.get(datatype or "", ("i", "INT32"))
    return RawTensor(name, shape or (len(values),), struct.pack(f"<{len(values)}{letter}", *values))


def reply(final: bool | None = None, **outputs: Any) -> Reply:
    made = {name: value if isinstance(value, RawTensor) else tensor(value) for name, value in outputs.items()}
    return Reply(made, final=final)


def decode(
    model: ModelSchema, replies: Iterable[Reply], override: ModelOverride | None = None, /, **fields: Any
) -> tuple[list[TokenEvent], End]:
    """Return the events of all replies, and the end."""
    decoder = choose_dialect(model, override).dialect.decoder(task(**fields), model)
    events: list[TokenEvent] = []
    for each in replies:
        decoder.feed(each, events)
        if decoder.done:
            break
    held, end = decoder.finish()
    return [*events, *held], end


def text(events: Iterable[TokenEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))
