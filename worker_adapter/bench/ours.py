"""Our own client: `WorkerAdapter.submit` and `infer`, as any application uses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from adapter_api import AdapterError, End, Error, InferRequest, TaskRequest, Token, WorkerAdapter
from worker_adapter.bench.samples import Answer, Reading

if TYPE_CHECKING:
    import numpy as np

_DROPPABLE = ("temperature", "max_tokens")


class TextOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The one text task that all clients ask for, over and over."""

    model: str
    model_version: str | None = None
    prompt: str
    as_messages: bool = False
    """Whether it goes as a chat of one message, since the model takes no bare prompt."""
    max_tokens: int | None
    temperature: float | None = 0.0
    timeout_s: float
    pause_s: float = 0.0

    def task(self) -> TaskRequest:
        """Return it as the contract has it, with an id of its own."""
        said: dict[str, Any] = {"model": self.model, "timeout_s": self.timeout_s}
        if self.as_messages:
            said["messages"] = [{"role": "user", "content": self.prompt}]
        else:
            said["prompt"] = self.prompt
        for name in ("model_version", *_DROPPABLE):
            if (value := getattr(self, name)) is not None:
                said[name] = value
        return TaskRequest.parse(said)

    @property
    def sent(self) -> dict[str, Any]:
        """What is asked of the model's sampling."""
        return {name: value for name in _DROPPABLE if (value := getattr(self, name)) is not None}


async def settle(adapter: WorkerAdapter, order: TextOrder) -> tuple[TextOrder, Error | None]:
    """Ask once, leaving out what the model does not take until it takes the rest; return what is left, and the error if
    it still ends in one."""
    while True:
        failure: Error | None = None
        async with adapter.submit(order.task()) as stream:
            async for event in stream:
                if type(event) is Error:
                    failure = event
        left = [name for name in _DROPPABLE if name in order.sent]
        if failure is None or failure.code != "unsupported" or not left:
            return order, failure
        dropped = next((name for name in left if name in failure.message), left[0])
        order = msgspec.structs.replace(order, **{dropped: None})


def text_client(adapter: WorkerAdapter, order: TextOrder) -> Callable[[], Awaitable[Answer]]:
    """Return what runs the task once and reads it to its end."""
    pause_s = order.pause_s

    async def ask() -> Answer:
        reading = Reading()
        error: str | None = "stream_incomplete"
        async with adapter.submit(order.task()) as stream:
            async for event in stream:
                if type(event) is Token:
                    reading.piece(event.text)
                    if pause_s:
                        await anyio.sleep(pause_s)
                elif type(event) is End:
                    error = None
                elif type(event) is Error:
                    error = event.code
        return reading.done(error)

    return ask


def tensor_client(adapter: WorkerAdapter, request: InferRequest) -> Callable[[], Awaitable[Answer]]:
    """Return what runs the inference once and reads all outputs."""

    async def ask() -> Answer:
        began = perf_counter()
        try:
            response = await adapter.infer(request)
        except AdapterError as exc:
            return Answer(perf_counter() - began, error=exc.code)
        arrays = {tensor.name: tensor.to_numpy() for tensor in response.outputs}
        return Answer(perf_counter() - began, Arrays(arrays))

    return ask


class Arrays:
    """Outputs of an inference, to be held against another's; looked at only when somebody asks."""

    __slots__ = ("_arrays", "_digest")

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._arrays: Mapping[str, np.ndarray[Any, Any]] | None = arrays
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        if self._digest is None:
            assert self._arrays is not None
            found = sha256()
            for name, array in sorted(self._arrays.items()):
                found.update(f"{name} {array.shape} ".encode())
                if array.dtype.hasobject:
                    for each in array.ravel().tolist():
                        element = each if isinstance(each, bytes) else str(each).encode()
                        found.update(b"%d " % len(element) + element)
                else:
                    found.update(f"{array.dtype} ".encode() + array.tobytes())
            self._digest, self._arrays = found.digest(), None
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arrays) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
