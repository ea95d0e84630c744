"""Many inferences at once: merged along the batch dimension where the model has one, side by side where it has not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import msgspec

from adapter_api import AdapterError, InferRequest, InferResponse, InvalidRequest, ProtocolViolation, Tensor
from adapter_api.tensors import ITEM_SIZE
from triton_adapter.schema import ModelSchema

Send = Callable[[InferRequest], Awaitable[InferResponse]]


async def infer_batch(
    requests: Sequence[InferRequest], schemas: Sequence[ModelSchema], send: Send, *, at_once: int
) -> list[InferResponse | AdapterError]:
    """Return one response, or its error, per request, in their order."""
    results: list[InferResponse | AdapterError] = [ProtocolViolation("no answer")] * len(requests)
    limit = asyncio.Semaphore(at_once)

    async def run(group: list[int]) -> None:
        async with limit:
            members = [requests[index] for index in group]
            try:
                answers: Sequence[InferResponse | AdapterError] = split(await send(merge(members)), members)
            except AdapterError as exc:
                # One bad item must not fail its neighbours: ask for each alone.
                alone = isinstance(exc, InvalidRequest) and len(members) > 1
                answers = [await _one(send, member) for member in members] if alone else [exc] * len(members)
            for index, answer in zip(group, answers, strict=True):
                results[index] = answer

    await asyncio.gather(*(run(group) for group in group_by_batch(requests, schemas)))
    return results


async def _one(send: Send, request: InferRequest) -> InferResponse | AdapterError:
    try:
        return await send(request)
    except AdapterError as exc:
        return exc


def group_by_batch(requests: Sequence[InferRequest], schemas: Sequence[ModelSchema]) -> list[list[int]]:
    """Return the positions of requests that go together: alike in all but their rows, and within the model's limit."""
    groups: list[list[int]] = []
    open_groups: dict[Any, tuple[list[int], int]] = {}
    for index, (request, schema) in enumerate(zip(requests, schemas, strict=True)):
        rows, key = _rows(request), _key(request)
        if not schema.batched or rows is None or request.sequence is not None:
            groups.append([index])
            continue
        group, filled = open_groups.get(key, ([], 0))
        if not group or filled + rows > schema.max_batch_size:
            group, filled = [], 0
            groups.append(group)
        group.append(index)
        open_groups[key] = group, filled + rows
    return groups


def merge(requests: Sequence[InferRequest]) -> InferRequest:
    """Return one request with the rows of all; in C order their bytes simply follow each other."""
    if len(requests) == 1:
        return requests[0]
    inputs = []
    for position, first in enumerate(requests[0].inputs):
        parts = [_input(request, first.name, position) for request in requests]
        rows = sum(part.shape[0] for part in parts)
        inputs.append(
            Tensor(first.name, first.datatype, (rows, *first.shape[1:]), b"".join(part.data for part in parts))
        )
    return msgspec.structs.replace(requests[0], inputs=tuple(inputs))


def split(response: InferResponse, requests: Sequence[InferRequest]) -> list[InferResponse]:
    """Return each request's own rows of a merged response."""
    if len(requests) == 1:
        return [response]
    counts = [request.inputs[0].shape[0] for request in requests]
    outputs: list[list[Tensor]] = [[] for _ in requests]
    for tensor in response.outputs:
        for own, part in zip(outputs, _split_tensor(tensor, counts), strict=True):
            own.append(part)
    return [
        msgspec.structs.replace(response, request_id=request.request_id, outputs=tuple(own))
        for request, own in zip(requests, outputs, strict=True)
    ]


def _split_tensor(tensor: Tensor, counts: Sequence[int]) -> list[Tensor]:
    if not tensor.shape or tensor.shape[0] != sum(counts):
        raise ProtocolViolation(
            f"output {tensor.name!r} has shape {list(tensor.shape)} for a batch of {sum(counts)} rows"
        )
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    offsets, rest = _row_offsets(tensor), tensor.shape[1:]
    return [
        Tensor(tensor.name, tensor.datatype, (stop - start, *rest), tensor.data[offsets[start] : offsets[stop]])
        for start, stop in pairwise(ends)
    ]


def _row_offsets(tensor: Tensor) -> Sequence[int]:
    """Return where each row begins, and where the last one ends."""
    rows, width = tensor.shape[0], prod(tensor.shape[1:])
    if width == 0:
        return [0] * (rows + 1)
    if tensor.datatype != "BYTES":
        size = width * ITEM_SIZE[tensor.datatype]
        return range(0, rows * size + 1, size)
    offsets, at = [0], 0
    for index, element in enumerate(tensor.elements(), 1):
        at += 4 + len(element)
        if index % width == 0:
            offsets.append(at)
    return offsets


def _rows(request: InferRequest) -> int | None:
    rows = {tensor.shape[0] if tensor.shape else None for tensor in request.inputs}
    return rows.pop() if len(rows) == 1 else None


def _key(request: InferRequest) -> Any:
    return (
        request.model,
        request.model_version,
        request.outputs,
        tuple(sorted(request.parameters.items())),
        request.priority,
        request.timeout_s,
        tuple(sorted((tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in request.inputs)),
    )


def _input(request: InferRequest, name: str, position: int) -> Tensor:
    tensor = request.inputs[position]
    if tensor.name == name:
        return tensor
    return next(tensor for tensor in request.inputs if tensor.name == name)
