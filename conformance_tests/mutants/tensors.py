"""ORCH-3061: tensors."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import msgspec

from adapter_api import (
    Capability,
    ConnectFailed,
    ConnectionLost,
    EngineFailed,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ModelNotFound,
    Tensor,
)
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.tensor_cases import DATATYPES


class _Changing(ReferenceAdapter):
    """Changes the outputs of the engine."""

    def _changed(self, tensor: Tensor) -> Tensor:
        return tensor

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        return [self._changed(tensor) for tensor in await super()._outputs(request)]


def _garbles(datatype: str) -> None:
    class Garbles(_Changing):
        def _changed(self, tensor: Tensor) -> Tensor:
            if tensor.datatype != datatype or tensor.shape != (2, 3):
                return tensor
            return msgspec.structs.replace(tensor, data=bytes(tensor.data)[::-1])

    Garbles.__name__ = f"Garbles{datatype.title()}"
    breaks("ORCH-3061-001")(Garbles)


for _datatype in DATATYPES:
    if _datatype != "BYTES":
        _garbles(_datatype)


@breaks("ORCH-3061-002")
class TakesBytesForText(_Changing):
    """Takes BYTES elements for text."""

    def _changed(self, tensor: Tensor) -> Tensor:
        if tensor.datatype != "BYTES":
            return tensor
        elements = [element.decode(errors="replace").encode() for element in tensor.elements()]
        return Tensor.from_bytes_elements(tensor.name, elements, tensor.shape)


@breaks("ORCH-3061-003")
class SortsRows(_Changing):
    """Returns the rows of a batch in another order."""

    def _changed(self, tensor: Tensor) -> Tensor:
        if tensor.shape != (8, 2):
            return tensor
        data, row = bytes(tensor.data), len(tensor.data) // 8
        return msgspec.structs.replace(
            tensor, data=b"".join(data[at : at + row] for at in range(0, 8 * row, row))[::-1]
        )


@breaks("ORCH-3061-004")
class GoesByPosition(ReferenceAdapter):
    """Names the outputs in the order of the inputs."""

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        outputs = await super()._outputs(request)
        names = [tensor.name.replace("INPUT", "OUTPUT") for tensor in request.inputs]
        return [msgspec.structs.replace(tensor, name=name) for tensor, name in zip(outputs, names, strict=True)]


@breaks("ORCH-3061-005")
class ReturnsEverything(ReferenceAdapter):
    """Returns outputs that nobody asked for."""

    def _response(self, request: InferRequest, outputs: list[Tensor]) -> InferResponse:
        return super()._response(msgspec.structs.replace(request, outputs=()), outputs)


@breaks("ORCH-3061-005")
class ReturnsTheFirst(ReferenceAdapter):
    """Returns as many outputs as were asked for, whichever they are."""

    def _response(self, request: InferRequest, outputs: list[Tensor]) -> InferResponse:
        chosen = outputs[: len(request.outputs) or None]
        return super()._response(msgspec.structs.replace(request, outputs=()), chosen)


class _Refusing(ReferenceAdapter):
    """Refuses inputs otherwise; `misfit` says which are meant."""

    misfit = False

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        try:
            return await super()._outputs(request)
        except InvalidRequest as exc:
            if (request.model == "swap") is not self.misfit:
                raise
            raise self._instead() from exc.__cause__

    def _instead(self) -> Exception:
        return EngineFailed("the engine failed the inference")


@breaks("ORCH-3061-006")
class BlamesTheEngineForAStray(_Refusing):
    """Calls an input that the model does not have a failure of the engine."""


@breaks("ORCH-3061-006")
class NamesNoStray(_Refusing):
    """Does not name the input that the model does not have."""

    def _instead(self) -> Exception:
        return InvalidRequest("an input is wrong")


@breaks("ORCH-3061-007")
class BlamesTheEngineForAMisfit(_Refusing):
    """Calls an input that does not fit a failure of the engine."""

    misfit = True


@breaks("ORCH-3061-007")
class NamesNoMisfit(_Refusing):
    """Does not name the input that does not fit."""

    misfit = True

    def _instead(self) -> Exception:
        return InvalidRequest("an input is wrong")


@breaks("ORCH-3061-008")
class BlamesTheRequest(ReferenceAdapter):
    """Calls an unknown model an invalid request."""

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        try:
            return await super()._outputs(request)
        except ModelNotFound as exc:
            raise InvalidRequest(exc.message) from exc.__cause__


@breaks("ORCH-3061-009")
class ForgetsTheId(ReferenceAdapter):
    """Does not return the id of the request."""

    def _response(self, request: InferRequest, outputs: list[Tensor]) -> InferResponse:
        return msgspec.structs.replace(super()._response(request, outputs), request_id="")


@breaks("ORCH-3061-010")
class MixesUp(ReferenceAdapter):
    """Returns the outputs of another inference when many run."""

    running = 0
    last: list[Tensor] | None = None

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        self.running += 1
        try:
            outputs = await super()._outputs(request)
            many, other, self.last = self.running > 6, self.last, outputs
            return other if many and other is not None else outputs
        finally:
            self.running -= 1


@breaks("ORCH-3061-011")
class FlattensNothing(_Changing):
    """Loses the shape of a tensor without elements."""

    def _changed(self, tensor: Tensor) -> Tensor:
        return tensor if len(tensor.data) else msgspec.structs.replace(tensor, shape=(0,))


@breaks("ORCH-3061-012")
class HasTime(ReferenceAdapter):
    """Passes over the time that an inference may take."""

    async def _infer(self, request: InferRequest) -> InferResponse:
        return await super()._infer(msgspec.structs.replace(request, timeout_s=None))


@breaks("ORCH-3061-013", without={Capability.TENSORS, Capability.TENSOR_STREAM, Capability.SEQUENCES})
class InfersUnasked(ReferenceAdapter):
    """Takes tensors, which it does not declare."""

    async def _infer(self, request: InferRequest) -> InferResponse:
        return self._response(request, await self._outputs(request))


@breaks("ORCH-3061-014")
class LosesTheLast(ReferenceAdapter):
    """Loses the last response of a stream."""

    async def _infer_stream(self, request: InferRequest) -> AsyncGenerator[InferResponse]:
        tensor = request.inputs[0]
        for byte in bytes(tensor.data)[:-1]:
            row = Tensor(tensor.name, "UINT8", (1,), bytes([byte]))
            yield await self._infer(msgspec.structs.replace(request, inputs=(row,)))


@breaks("ORCH-3061-014")
class StreamsBackwards(ReferenceAdapter):
    """Yields responses in another order."""

    async def _infer_stream(self, request: InferRequest) -> AsyncGenerator[InferResponse]:
        responses = [response async for response in super()._infer_stream(request)]
        for response in responses[::-1]:
            yield response


@breaks("ORCH-3061-015")
class SulksWhenLeft(ReferenceAdapter):
    """Streams nothing more once a stream was left early."""

    left = False

    async def _infer_stream(self, request: InferRequest) -> AsyncGenerator[InferResponse]:
        if self.left:
            raise EngineFailed("the stream is still in use")
        try:
            async with aclosing(super()._infer_stream(request)) as responses:
                async for response in responses:
                    yield response
        finally:
            self.left = sys.exc_info()[0] is GeneratorExit


@breaks("ORCH-3061-016")
class Overtakes(ReferenceAdapter):
    """Lets later requests of a sequence overtake earlier ones."""

    async def _infer(self, request: InferRequest) -> InferResponse:
        if request.sequence is not None:
            await anyio.sleep(1.0 / request.inputs[0].data[0])
        return await super()._infer(request)


@breaks("ORCH-3061-023")
class BlamesTheEngine(ReferenceAdapter):
    """Says that the engine failed at an inference which it never got."""

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        try:
            return await super()._outputs(request)
        except ConnectFailed as exc:
            raise EngineFailed(exc.message) from exc.__cause__


@breaks("ORCH-3061-025")
class InfersTwice(ReferenceAdapter):
    """Sends an inference again when its connection broke."""

    async def _outputs(self, request: InferRequest) -> list[Tensor]:
        try:
            return await super()._outputs(request)
        except ConnectionLost:
            return await super()._outputs(request)
