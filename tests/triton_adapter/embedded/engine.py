"""Talk to a demo model with tritonclient, so that these tests do not rest on our own transport."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tritonclient.grpc as client
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from triton_adapter.embedded import EmbeddedTriton

WAIT_S = 20.0


@dataclass
class Stream:
    """Every message of one request, in order."""

    texts: list[bytes] = field(default_factory=list)
    outputs: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    final_with_data: bool = False

    @property
    def text(self) -> str:
        return b"".join(self.texts).decode()

    def column(self, name: str) -> list[Any]:
        return [output[name].reshape(-1)[0] for output in self.outputs]


@contextmanager
def connect(triton: EmbeddedTriton) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(triton.grpc_url.removeprefix("grpc://")) as connection:
        yield connection


def tensor(name: str, value: Any, dtype: str | None = None, *, batched: bool = False) -> client.InferInput:
    array = np.array([value.encode() if isinstance(value, str) else value], dtype=dtype)
    if array.dtype.kind == "S":
        array = array.astype(np.object_)
    if batched:
        array = array[None]
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


@contextmanager
def open_stream(
    triton: EmbeddedTriton,
    model: str,
    inputs: list[client.InferInput],
    parameters: Mapping[str, Any] | None = None,
    request_id: str = "",
) -> Iterator[queue.Queue[Any]]:
    """Send one request; the queue gets `(result, error)`. Leaving cancels what still runs."""
    messages: queue.Queue[Any] = queue.Queue()
    with connect(triton) as connection:
        connection.start_stream(lambda result, error: messages.put((result, error)))
        try:
            connection.async_stream_infer(
                model,
                inputs,
                request_id=request_id,
                parameters=dict(parameters or {}),
                enable_empty_final_response=True,
            )
            yield messages
        finally:
            connection.stop_stream(cancel_requests=True)


def stream(
    triton: EmbeddedTriton, model: str, inputs: list[client.InferInput], parameters: Mapping[str, Any] | None = None
) -> Stream:
    """Return all messages of one request, up to the final one."""
    collected = Stream()
    with open_stream(triton, model, inputs, parameters) as messages:
        while True:
            result, error = messages.get(timeout=WAIT_S)
            if error is not None:
                collected.errors.append(error.message())
                return collected
            response = result.get_response()
            final = response.parameters["triton_final_response"].bool_param
            if response.outputs:
                outputs = {output.name: result.as_numpy(output.name) for output in response.outputs}
                collected.outputs.append(outputs)
                if "text_output" in outputs:
                    collected.texts.append(outputs["text_output"].reshape(-1)[0])
                collected.final_with_data = final
            if final:
                return collected


def tinylm(triton: EmbeddedTriton, prompt: str, *, flags: Mapping[str, bool] | None = None, **sampling: Any) -> Stream:
    flags = {"stream": True} | dict(flags or {})
    inputs = [tensor("text_input", prompt), *(tensor(name, flag) for name, flag in flags.items())]
    inputs.append(tensor("sampling_parameters", json.dumps({"extra_args": {"token_delay_ms": 0}} | sampling)))
    return stream(triton, "tinylm", inputs)


def probe(triton: EmbeddedTriton, **parameters: Any) -> dict[str, Any]:
    """Ask the model `slow` what it is doing."""
    answer = stream(triton, "slow", [tensor("text_input", "")], {"probe": "running"} | parameters)
    return dict(json.loads(answer.text))
