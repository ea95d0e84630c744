"""The generated module: fresh, and at home in one process with other clients of the protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tritonclient.grpc import model_config_pb2, service_pb2

from triton_adapter.wire import v2_pb2

ROOT = Path(__file__).parents[3]


def test_our_messages_agree_with_the_independent_clients_field_by_field() -> None:
    theirs = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}

    for name, ours in v2_pb2.DESCRIPTOR.message_types_by_name.items():
        _compare(name, ours, theirs[name])


def _compare(name: str, ours: object, theirs: object) -> None:
    expected = {field.name: field for field in theirs.fields}  # type: ignore[attr-defined]
    for field in ours.fields:  # type: ignore[attr-defined]
        twin = expected[field.name]
        assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated), (
            f"{name}.{field.name}"
        )
    nested = theirs.nested_types_by_name  # type: ignore[attr-defined]
    for inner in ours.nested_types:  # type: ignore[attr-defined]
        _compare(f"{name}.{inner.name}", inner, nested[inner.name])
    for kind in ours.enum_types:  # type: ignore[attr-defined]
        values = theirs.enum_types_by_name[kind.name].values_by_name  # type: ignore[attr-defined]
        assert {v.name: v.number for v in kind.values} == {v.name: v.number for v in values.values()}


def test_the_generated_module_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/generate_wire.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
