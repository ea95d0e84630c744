"""Models that a test brings along: loaded into the running server with their files, and taken out again."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from adapter_api import AdapterError
from triton_adapter import TritonAdapter
from triton_adapter.schema import ModelSchema
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import SERVER_READY

_PREAMBLE = """
import numpy as np
import triton_python_backend_utils as pb_utils

def value(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()

def answer(**outputs):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])

def text(value):
    return np.array([value.encode()], dtype=object)

class TritonPythonModel:
"""


def tensor(name: str, data_type: str, *dims: int, optional: bool = False) -> dict[str, Any]:
    """Return an input or output of a configuration."""
    return {"name": name, "data_type": data_type, "dims": list(dims), **({"optional": True} if optional else {})}


def step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    """Return a step of an ensemble. Its model must be on the server's disk: a model with files of ours will not do."""
    return {"model_name": model, "model_version": -1, "input_map": inputs, "output_map": outputs}


@asynccontextmanager
async def loaded(
    adapter: TritonAdapter,
    name: str,
    *,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    code: str = "",
    mends: bool = True,
    **config: Any,
) -> AsyncIterator[ModelSchema]:
    """Load a model whose class body is `code` (or an ensemble, without any), and unload it in the end."""
    whole = {"name": name, "input": inputs, "output": outputs, **config}
    files = {}
    if code:
        whole = {"backend": "python", "instance_group": [{"kind": "KIND_CPU", "count": 1}], **whole}
        files["1/model.py"] = (_PREAMBLE + textwrap.indent(textwrap.dedent(code), "    ")).encode()
    else:
        # An ensemble has no file of its own, but Triton wants to see a version.
        files["1/ensemble"] = b"nothing to see"
    try:
        schema = await adapter.models.load(name, config=whole, files=files)
    except AdapterError:
        if mends:
            await _mend(adapter, name)
        raise
    try:
        yield schema
    finally:
        await adapter.models.unload(name)
        await _until_gone(adapter)


async def _mend(adapter: TritonAdapter, name: str) -> None:
    """Load something that works: after a failed load the server would call itself not ready for good."""
    code = "def execute(self, requests): return []"
    async with loaded(adapter, name, inputs=[], outputs=[], code=code, mends=False):
        pass


async def _until_gone(adapter: TritonAdapter) -> None:
    """Wait until the server calls itself ready again, which it does not while it unloads."""
    transport = adapter._engine.transport
    with anyio.fail_after(20):
        while not (await transport.control(SERVER_READY, v2.ServerReadyRequest(), timeout_s=5)).ready:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)
