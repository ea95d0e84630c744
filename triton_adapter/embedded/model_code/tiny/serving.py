"""What every streaming demo model needs from Triton's Python backend: one coroutine per request, always answered."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

FINAL: int = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
Handler = Callable[[Any, Any], Awaitable[None]]


class Cancelled(Exception):
    """The client no longer wants the answer."""


class RequestLoop:
    """Run a coroutine per request on one event loop in a thread of its own, so that requests stream side by side.

    `handler(request, sender)` must send the final flag itself; whatever it raises is answered with `answer_error`.
    """

    def __init__(self, handler: Handler, *, answer_error: Callable[[Any, BaseException], None] | None = None) -> None:
        self._handler = handler
        self._answer_error = answer_error or send_error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def submit(self, request: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._run(request), self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _run(self, request: Any) -> None:
        # A request that no one answers hangs its client for ever: nothing may escape from here.
        sender = request.get_response_sender()
        try:
            await self._handler(request, sender)
        except Cancelled:
            send_error(sender, "Request was cancelled", code=pb_utils.TritonError.CANCELLED)
        except Exception as error:
            self._answer_error(sender, error)


class StreamingModel:
    """What Triton calls of a model whose `initialize` made its `_requests`."""

    _requests: RequestLoop

    def execute(self, requests: Iterable[Any]) -> None:
        for request in requests:
            self._requests.submit(request)

    def finalize(self) -> None:
        self._requests.close()


def send(sender: Any, outputs: Mapping[str, NDArray[Any]], *, final: bool = False) -> None:
    tensors = [pb_utils.Tensor(name, value) for name, value in outputs.items()]
    sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=FINAL if final else 0)


def send_final(sender: Any) -> None:
    """End the stream with a message that carries nothing but the flag."""
    sender.send(flags=FINAL)


def send_error(sender: Any, error: object, *, code: int | None = None, final: bool = True) -> None:
    triton_error = pb_utils.TritonError(str(error), code=pb_utils.TritonError.INTERNAL if code is None else code)
    sender.send(pb_utils.InferenceResponse(output_tensors=[], error=triton_error), flags=FINAL if final else 0)


def raise_if_cancelled(sender: Any) -> None:
    if sender.is_cancelled():
        raise Cancelled


def values(request: Any, name: str) -> list[Any]:
    """Return the elements of the input, flat; an empty list when it was not sent."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else list(tensor.as_numpy().reshape(-1))


def value(request: Any, name: str, default: Any = None) -> Any:
    """Return the only element of the input as a Python value, text decoded; `default` when it was not sent."""
    found = values(request, name)
    if not found:
        return default
    return found[0].decode("utf-8") if isinstance(found[0], bytes) else found[0].item()


def parameters(request: Any) -> dict[str, Any]:
    """Return the request parameters, without those that the server itself defines."""
    return dict(json.loads(request.parameters() or "{}"))


def setting(args: Mapping[str, str], name: str, default: str) -> str:
    """Return the value of `parameters { key: NAME value: { string_value: … } }` in the model's configuration."""
    configured = json.loads(args["model_config"]).get("parameters", {})
    return str(configured.get(name, {}).get("string_value", default))


def strings(*texts: str | bytes) -> NDArray[np.object_]:
    return np.array([text.encode() if isinstance(text, str) else text for text in texts], dtype=np.object_)
