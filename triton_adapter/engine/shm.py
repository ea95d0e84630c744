"""Large tensors by system shared memory, when the server runs on this machine and allows it.

A region is a file in `/dev/shm` that the server maps when it is registered. Its name is removed as soon as that is
done, so that no crash of ours can leave a file behind; what a dead process left registered is found by its name, which
carries the process id, and unregistered by the next one that looks.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from adapter_api import AdapterError, RequestedOutput, Tensor
from adapter_api.tensors import ITEM_SIZE
from triton_adapter.engine.sharing import shared
from triton_adapter.schema import ModelSchema, RawTensor, Reply
from triton_adapter.settings import TritonSettings
from triton_adapter.transports.base import Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import ShmRef, WireRequest
from triton_adapter.wire.rpcs import SHM_REGISTER, SHM_STATUS, SHM_UNREGISTER

_DIRECTORY = Path("/dev/shm")
_PREFIX = "worker-adapter"
_KEPT = 16
"""Regions that wait to be used again; more are given back at once."""


class Region:
    """A piece of memory that this process and the server both see."""

    def __init__(self, size: int) -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(6)}"
        self.size = size
        path = _DIRECTORY / self.name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Allocated, not only sized: a full /dev/shm must fail here and not as SIGBUS when it is written.
            os.posix_fallocate(descriptor, 0, size)
            self.memory = mmap.mmap(descriptor, size)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)

    def lend(self, size: int, give_back: Callable[[], None]) -> memoryview:
        """Return a read-only view of the first bytes; `give_back` is called, in whatever thread, when nobody has a
        view of it any more."""
        whole = (ctypes.c_char * self.size).from_buffer(self.memory)
        weakref.finalize(whole, give_back).atexit = False
        return memoryview(whole).cast("B")[:size].toreadonly()

    def unlink(self) -> None:
        """Remove the name; both mappings stay."""
        (_DIRECTORY / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmap our side."""
        self.unlink()
        try:
            self.memory.close()
        except BufferError:
            pass  # somebody still has a view of it: the memory goes with the last of them


class Lease:
    """The regions of one request: give it back exactly once, `clean` when the server is certainly done with them."""

    def __init__(self, pool: SharedMemory) -> None:
        self._pool = pool
        self._regions: list[Region] = []
        self.inputs: dict[str, ShmRef] = {}
        self.outputs: dict[str, ShmRef] = {}
        self._of: dict[str, Region] = {}

    async def put(self, tensor: Tensor) -> None:
        """Place an input's bytes."""
        region = await self._take(len(tensor.data))
        region.memory[: len(tensor.data)] = tensor.data
        self.inputs[tensor.name] = ShmRef(region.name, len(tensor.data))

    async def expect(self, name: str, size: int) -> None:
        """Make place for an output."""
        self._of[name] = region = await self._take(size)
        self.outputs[name] = ShmRef(region.name, size)

    def applied_to(self, message: WireRequest, schema: ModelSchema) -> WireRequest:
        """Return the request with its large tensors in the regions."""
        outputs = message.outputs or tuple(RequestedOutput(name) for name in schema.outputs)
        return replace(message, shm_inputs=self.inputs, shm_outputs=self.outputs, outputs=outputs)

    def is_named_in(self, error: AdapterError) -> bool:
        """Return whether the server refused one of the regions: nothing else knows their names."""
        return any(region.name in error.message for region in self._regions)

    def fetch(self, reply: Reply) -> None:
        """Put the outputs that lie in the regions into the reply: as views, as long as not too many are out."""
        for name, region in self._of.items():
            raw = reply.outputs.get(name)
            if raw is not None and not raw.data:
                size = prod(raw.shape) * ITEM_SIZE[raw.datatype]
                view = self._pool.lend(region, size)
                if view is not None:
                    self._regions.remove(region)
                data = region.memory[:size] if view is None else view
                reply.outputs[name] = RawTensor(raw.datatype, raw.shape, data)

    def release(self, *, clean: bool) -> None:
        """Give the regions back."""
        self._pool.take_back(self._regions, clean=clean)
        self._regions = []

    async def _take(self, size: int) -> Region:
        region = await self._pool.region(size)
        self._regions.append(region)
        return region


class SharedMemory:
    """The regions of one adapter. Off by itself, with a `reason`, where the server does not see our memory."""

    def __init__(self, transport: Transport, settings: TritonSettings) -> None:
        self._transport = transport
        self._timeout_s = settings.control_timeout_s
        self._quarantine_s = settings.drain_timeout_s
        self._min_bytes = settings.shared_memory_min_bytes
        self._wanted = settings.shared_memory
        self._free: list[Region] = []
        self._all: set[Region] = set()
        self._lent = 0
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._probe: asyncio.Task[str | None] | None = None

    async def reason(self) -> str | None:
        """Return why shared memory is not used; `None` when it is."""
        if not self._wanted:
            return "not asked for: set `shared_memory`"
        if self._probe is None:
            self._probe = asyncio.get_running_loop().create_task(self._try())
        return await shared(self._probe)

    async def lease(
        self, tensors: Sequence[Tensor], outputs: Sequence[RequestedOutput], schema: ModelSchema
    ) -> Lease | None:
        """Return a lease with the large tensors of a request in it; `None` when there is nothing to gain."""
        if not self._wanted:
            return None
        large = [tensor for tensor in tensors if len(tensor.data) >= self._min_bytes]
        expected = _output_sizes(tensors, outputs, schema, self._min_bytes)
        if not (large or expected) or await self.reason() is not None:
            return None
        lease = Lease(self)
        try:
            for tensor in large:
                await lease.put(tensor)
            for name, size in expected.items():
                await lease.expect(name, size)
        except (AdapterError, OSError):
            # No memory left, or the server refuses another region: by the wire, then.
            lease.release(clean=True)
            return None
        except BaseException:
            lease.release(clean=True)
            raise
        return lease

    async def region(self, size: int) -> Region:
        """Return a registered region of at least `size` bytes that nobody uses."""
        fitting = [region for region in self._free if size <= region.size <= 4 * size]
        if fitting:
            best = min(fitting, key=lambda region: region.size)
            self._free.remove(best)
            return best
        region = Region(max(mmap.PAGESIZE, 1 << (size - 1).bit_length()))
        self._all.add(region)
        request = v2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=f"/{region.name}", offset=0, byte_size=region.size
        )
        try:
            await self._transport.control(SHM_REGISTER, request, timeout_s=self._timeout_s, what="shared memory")
        except BaseException:
            self._discard(region)
            raise
        region.unlink()
        return region

    def lend(self, region: Region, size: int) -> memoryview | None:
        """Return a view of a region, which comes back by itself; `None` when as many are out as are kept."""
        if self._lent >= _KEPT:
            return None
        self._lent += 1
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        def come_back() -> None:
            if threading.get_ident() == thread and not loop.is_closed():
                self._came_back(region)
                return
            try:
                loop.call_soon_threadsafe(self._came_back, region)
            except RuntimeError:
                pass  # the loop is closed, and this adapter with it

        return region.lend(size, come_back)

    def _came_back(self, region: Region) -> None:
        self._lent -= 1
        if not self._closed:
            self.take_back([region], clean=True)

    def take_back(self, regions: Sequence[Region], *, clean: bool) -> None:
        """Keep regions for the next request; those that the server may still use rest until it cannot any more."""
        for region in regions:
            if clean and len(self._free) < _KEPT:
                self._free.append(region)
            else:
                self._spawn(self._retire(region, 0 if clean else self._quarantine_s))

    def start_over(self) -> None:
        """Give back what waits to be used again, and find out anew whether the server sees our memory."""
        self._probe = None
        free, self._free = self._free, []
        for region in free:
            self._spawn(self._retire(region, 0))

    async def aclose(self) -> None:
        """Unregister and unmap everything; views that are out stay readable."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for region in list(self._all):
            await self._unregister(region)

    async def _try(self) -> str | None:
        if not _is_there(_DIRECTORY):
            return "this machine has no /dev/shm"
        try:
            await self._sweep()
            self.take_back([await self.region(mmap.PAGESIZE)], clean=True)
        except (AdapterError, OSError) as exc:
            return f"the server cannot use our shared memory: {exc}"
        return None

    async def _sweep(self) -> None:
        """Unregister what processes of this machine left behind that are no more."""
        status = await self._transport.control(
            SHM_STATUS, v2.SystemSharedMemoryStatusRequest(), timeout_s=self._timeout_s
        )
        for name in status.regions:
            prefix, _, rest = name.rpartition("-")[0].rpartition("-")
            if prefix == _PREFIX and rest.isdecimal() and not _is_there(Path(f"/proc/{rest}")):
                await self._tell_unregister(name)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _retire(self, region: Region, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._unregister(region)

    async def _unregister(self, region: Region) -> None:
        await self._tell_unregister(region.name)
        self._discard(region)

    async def _tell_unregister(self, name: str) -> None:
        try:
            await self._transport.control(
                SHM_UNREGISTER, v2.SystemSharedMemoryUnregisterRequest(name=name), timeout_s=self._timeout_s
            )
        except AdapterError:
            pass  # a server that is gone has unmapped it

    def _discard(self, region: Region) -> None:
        self._all.discard(region)
        region.close()


def _is_there(path: Path) -> bool:
    return path.exists()


def _output_sizes(
    tensors: Sequence[Tensor], outputs: Sequence[RequestedOutput], schema: ModelSchema, at_least: int
) -> dict[str, int]:
    """Return the bytes of each large output whose size is certain before the request."""
    batch = tensors[0].shape[0] if tensors and tensors[0].shape else 1
    asked = [output.name for output in outputs if not output.classification] if outputs else list(schema.outputs)
    stated = {output.name: output.shape for output in outputs}
    sizes = {}
    for name in asked:
        spec = schema.outputs.get(name)
        if spec is None or spec.datatype not in ITEM_SIZE:
            continue
        shape = stated.get(name) or ((batch, *spec.dims) if schema.batched else spec.dims)
        if any(dim < 0 for dim in shape):
            continue
        size = prod(shape) * ITEM_SIZE[spec.datatype]
        if size >= at_least:
            sizes[name] = size
    return sizes
