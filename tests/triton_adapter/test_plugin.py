"""How the adapter is found, and what it costs to know of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from adapter_api import API_VERSION, AdapterClosed, ConfigurationError, load_plugins
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.testing import FakeTriton


def test_the_adapter_is_found_by_its_entry_point_and_made_from_options() -> None:
    record = load_plugins(block=()).adapter_for_url("grpcs://host:8001")

    adapter = record.create({"url": "grpc://host:8001"}, environ={"ORCHD_TRITON_POOL": "gpu"})

    assert (record.name, record.api_version) == ("triton", API_VERSION)
    assert isinstance(adapter, TritonAdapter)
    assert (adapter.settings.url, adapter.settings.pool_id) == ("grpc://host:8001", "gpu")


def test_a_wrong_option_is_named() -> None:
    record = load_plugins(block=()).adapter("triton")

    with pytest.raises(ConfigurationError, match="urll"):
        record.create({"urll": "grpc://host:8001"})


def test_knowing_of_the_adapter_imports_nothing_heavy() -> None:
    program = (
        "import sys, triton_adapter, triton_adapter.plugin; triton_adapter.plugin.worker_adapter_register(); "
        "print([name for name in ('grpc', 'numpy', 'google.protobuf', 'tritonclient', 'typer') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_a_task_needs_neither_tritonclient_nor_numpy() -> None:
    program = """
import sys
sys.modules.update(tritonclient=None, numpy=None)  # importing either fails now
import asyncio
from adapter_api import TaskRequest, Token
from triton_adapter import TritonAdapter, TritonSettings

async def main():
    async with TritonAdapter(TritonSettings(url=sys.argv[1])) as adapter:
        async for event in adapter.submit(TaskRequest(model="m", prompt="hi")):
            if isinstance(event, Token):
                print(event.text, end="")

asyncio.run(main())
"""
    with FakeTriton() as fake:
        fake.model("m").respond_with_text("one two")
        command = [sys.executable, "-c", program, fake.grpc_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "one two"


def test_an_event_loop_that_is_not_asyncios_is_refused_with_a_reason() -> None:
    async def use() -> None:
        async with TritonAdapter(TritonSettings()):
            pass

    with pytest.raises(ConfigurationError, match="asyncio"):
        trio.run(use)


def test_an_unopened_adapter_has_no_models_to_control() -> None:
    with pytest.raises(AdapterClosed, match="not open"):
        _ = TritonAdapter(TritonSettings()).models
