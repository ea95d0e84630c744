"""`tritonclient.grpc.aio`, as its users write it: streams for text, unary calls for tensors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import anyio
import numpy as np
import tritonclient.grpc.aio as tc
from tritonclient.utils import InferenceServerException

from adapter_api import Capability, InferRequest, ModelProps, TensorSpec
from worker_adapter.bench.ours import Arrays, TextOrder
from worker_adapter.bench.peers import Asked, Unfit, refuse_settings
from worker_adapter.bench.samples import Answer, Reading

_NOT_PASSED_ON = ("tls", "bearer_token", "bearer_token_file", "restricted_token", "compression", "shared_memory")
_DIALECTS = ("vllm", "trtllm")
_TEXT_IN, _TEXT_OUT = "text_input", "text_output"
_Ask = Callable[[], Awaitable[Answer]]


async def open_peer(stack: AsyncExitStack, url: str, settings: Any, asked: Asked) -> tuple[str, _Ask]:
    """Return what it does less than ours, and what asks once."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    if getattr(settings, "protocol", "grpc") != "grpc" or parts.scheme in ("grpcs", "https"):
        raise Unfit("it is measured over gRPC without TLS only: give grpc://host:8001")
    refuse_settings(settings, _NOT_PASSED_ON)
    inputs = None if asked.text is None else _text_inputs(asked.model, asked.text)
    client = await stack.enter_async_context(tc.InferenceServerClient(parts.netloc))
    if asked.text is not None and inputs is not None:
        return "reads the text only, ours the finish reason and counts too", _text(client, asked.text, inputs)
    assert asked.request is not None
    return "", _tensors(client, asked.request)


def _text(client: tc.InferenceServerClient, order: TextOrder, inputs: list[tc.InferInput]) -> _Ask:
    request = {
        "model_name": order.model,
        "model_version": order.model_version or "",
        "inputs": inputs,
        "outputs": [tc.InferRequestedOutput(_TEXT_OUT)],
    }

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield request

    async def ask() -> Answer:
        reading = Reading()
        try:
            async for result, error in client.stream_infer(requests(), stream_timeout=order.timeout_s):
                if error is not None:
                    return reading.done(_code(error))
                output = result.as_numpy(_TEXT_OUT)
                if output is not None and output.size and (text := output.ravel()[0].decode()):
                    reading.piece(text)
                    if order.pause_s:
                        await anyio.sleep(order.pause_s)
        except InferenceServerException as exc:
            return reading.done(_code(exc))
        # It cannot ask for the last message of models that end with an empty one, so that the call's end has to do.
        return reading.done()

    return ask


def _tensors(client: tc.InferenceServerClient, request: InferRequest) -> _Ask:
    arrays = [(tensor, tensor.to_numpy()) for tensor in request.inputs]

    def inputs() -> list[tc.InferInput]:
        made = []
        for tensor, array in arrays:
            given = tc.InferInput(tensor.name, list(array.shape), tensor.datatype)
            given.set_data_from_numpy(array)
            made.append(given)
        return made

    try:
        inputs()
    except InferenceServerException as exc:
        raise Unfit(f"it cannot send these inputs: {exc.message()}") from exc

    async def ask() -> Answer:
        began = perf_counter()
        try:
            result = await client.infer(request.model, inputs(), model_version=request.model_version or "")
        except InferenceServerException as exc:
            return Answer(perf_counter() - began, error=_code(exc))
        found = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
        return Answer(perf_counter() - began, Arrays(found))

    return ask


def _text_inputs(model: ModelProps, order: TextOrder) -> list[tc.InferInput]:
    """Return the tensors of the two families whose tensors are known everywhere by the same names."""
    if not (model.dialect or "").startswith(_DIALECTS):
        raise Unfit(f"only texts of vLLM's and TensorRT-LLM's tensors are known to it, not of {model.dialect!r}")
    if order.as_messages:
        raise Unfit("it takes no chats")
    declared = {spec.name: spec for spec in model.inputs}
    sampling = json.dumps(order.sent, separators=(",", ":")).encode()
    values: dict[str, Any] = {
        _TEXT_IN: order.prompt.encode(),
        "stream": Capability.STREAMING in model.capabilities,
        "sampling_parameters": sampling,
        **order.sent,
    }
    given = {name: value for name, value in values.items() if name in declared}
    missing = [name for name, spec in declared.items() if spec.optional is False and name not in given]
    outputs = {spec.name for spec in model.outputs}
    if missing or _TEXT_IN not in given or _TEXT_OUT not in outputs:
        raise Unfit(f"it is not known what the model wants in {', '.join(missing) or 'place of text_input'}")
    return [_tensor(declared[name], value) for name, value in given.items()]


def _tensor(spec: TensorSpec, value: Any) -> tc.InferInput:
    shape = [1 if dim < 0 else dim for dim in spec.shape]
    array: np.ndarray[Any, Any]
    if spec.datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        array.fill(value)
    else:
        array = np.full(shape, value, dtype=_numpy_type(spec.datatype))
    given = tc.InferInput(spec.name, shape, spec.datatype)
    given.set_data_from_numpy(array)
    return given


def _numpy_type(datatype: str) -> str:
    return {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}.get(datatype, datatype.lower())


def _code(error: InferenceServerException) -> str:
    """Return gRPC's word for it, as in `unavailable`; in a stream's own errors there is none."""
    return str(error.status() or "inference_error").rpartition(".")[2].lower()
