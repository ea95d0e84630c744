"""Detectors without weights: each boxes what is purely red, green or blue, and answers in its own layout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adapter_api import (
    AdapterError,
    EngineProps,
    HealthReport,
    HealthState,
    InferRequest,
    InferResponse,
    ModelHealth,
    ModelProps,
    TaskRequest,
    Tensor,
    TensorSpec,
    TokenEvent,
    Unsupported,
    WorkerAdapter,
)

Array = np.ndarray[Any, Any]
Answer = Callable[[Array], dict[str, Array]]
"""Of one picture [3, height, width], 0 to 1, red first."""

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
NAMES = "{'task': 'detect', 'names': {0: 'red', 1: 'green', 2: 'blue'}, 'end2end': False}"


def picture(width: int, height: int, *boxes: tuple[tuple[int, int, int], int, int, int, int]) -> Array:
    """Return black with boxes of a colour."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for colour, x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = colour
    return pixels


PLAIN = picture(640, 480, (RED, 40, 60, 200, 160), (GREEN, 300, 100, 420, 300), (BLUE, 480, 320, 600, 440))
SUREST = [("0", 40, 60, 200, 160), ("1", 300, 100, 420, 300), ("2", 480, 320, 600, 440)]


def candidates(pixels: Array, classes: int = 3) -> list[tuple[float, float, float, float, float, int]]:
    """Return boxes with score and class: of each colour the box itself, one that overlaps it by 0.82 and one by 0.6,
    and the box again as another class."""
    found = []
    for colour in range(min(classes, 3)):
        rows, columns = np.nonzero((pixels[colour] > 0.6) & (np.delete(pixels, colour, axis=0) < 0.4).all(axis=0))
        if not len(rows):
            continue
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        for shift, score, number in ((0, 0.9, 0), (0.1, 0.85, 0), (0.25, 0.8, 0), (0, 0.3 + colour / 10, 1)):
            moved = shift * (x2 - x1)
            found.append((x1 + moved, y1, x2 + moved, y2, score - colour / 10, (colour + number) % min(classes, 3)))
    return found


def own_boxes(pixels: Array, classes: int = 3) -> list[tuple[float, float, float, float, float, int]]:
    """Return only the boxes themselves."""
    return [each for index, each in enumerate(candidates(pixels, classes)) if index % 4 == 0]


def _centred(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def raw(cells: int, classes: int = 3, extra: int = 0) -> Answer:
    def answer(pixels: Array) -> dict[str, Array]:
        table = np.zeros((4 + classes + extra, cells), np.float32)
        for column, (*box, score, number) in enumerate(candidates(pixels, classes)):
            table[:4, column] = _centred(*box)
            table[4 + number, column] = score
            table[4 + classes :, column] = _points(box, extra)
        return {"output0": table}

    return answer


def _points(box: Sequence[float], values: int) -> Array:
    """Return what a pose model says: all its points in the middle of the box, quite sure."""
    middle = _centred(*box)[:2]
    return np.tile(np.array([*middle, 0.75], np.float32), values // 3)


def rows(count: int = 300) -> Answer:
    def answer(pixels: Array) -> dict[str, Array]:
        table = np.zeros((count, 6), np.float32)
        for row, found in enumerate(own_boxes(pixels)):
            table[row] = found
        return {"output0": table}

    return answer


def objectness(anchors: int, classes: int = 3, undecoded: bool = False) -> Answer:
    def answer(pixels: Array) -> dict[str, Array]:
        table = np.zeros((anchors, 5 + classes), np.float32)
        if undecoded:
            table[:, 2:4] = -5
        for row, (*box, score, number) in enumerate(candidates(pixels, classes)):
            x, y, width, height = _centred(*box)
            # Cell number `row` of the first line of the finest grid, whose cells have 8 pixels.
            table[row, :4] = (
                (x / 8 - row, y / 8, np.log(width / 8), np.log(height / 8)) if undecoded else (x, y, width, height)
            )
            table[row, 4] = table[row, 5 + number] = np.sqrt(score)
        return {"output": table}

    return answer


def rtdetr(count: int = 300) -> Answer:
    def answer(pixels: Array) -> dict[str, Array]:
        table = np.zeros((count, 6), np.float32)
        for row, (*box, score, number) in enumerate(own_boxes(pixels)):
            table[row] = (*_fractions(box, pixels), score, number)
        return {"output0": table}

    return answer


def queries(boxes: str, logits: str, *, softmax: bool = False, count: int = 100) -> Answer:
    def answer(pixels: Array) -> dict[str, Array]:
        table = np.zeros((count, 4), np.float32)
        scores = np.full((count, 4), -9, np.float32)
        scores[:, 3] = 9 if softmax else -9
        for row, (*box, score, number) in enumerate(own_boxes(pixels)):
            table[row] = _fractions(box, pixels)
            if softmax:
                scores[row] = np.log(1e-9)
                scores[row, 3] = np.log(1 - score)
                scores[row, number] = np.log(score)
            else:
                scores[row, number] = np.log(score / (1 - score))
        return {boxes: table, logits: scores}

    return answer


def _fractions(box: Sequence[float], pixels: Array) -> Array:
    height, width = pixels.shape[1:]
    return np.array(_centred(*box)) / (width, height, width, height)


class DetectorAdapter(WorkerAdapter):
    """An engine with one detector, as an adapter shows it.

    Args:
        answer: What the detector does.
        shape: Of its input, as it declares it.
        sends: Turns the input's values back into 0 to 1, red first.
    """

    engine = "detectors"

    def __init__(
        self, answer: Answer, shape: tuple[int, ...] = (1, 3, 320, 320), *, datatype: str = "FP32",
        metadata: str | None = None, sends: Callable[[Array], Array] = lambda values: values,
        declared: Mapping[str, tuple[int, ...]] | None = None, ready: bool = True,
    ) -> None:  # fmt: skip
        self._answer_of = answer
        self._shape = shape
        self._datatype = datatype
        self._metadata = metadata
        self._sends = sends
        self._declared_outputs = declared
        self._is_ready = ready
        self.failures: list[AdapterError] = []
        """What the next inferences come to."""
        self.hold: asyncio.Event | None = None
        self.requests: list[InferRequest] = []
        self.at_work = self.most_at_work = 0
        self._changed = asyncio.Event()

    async def until_at_work(self, count: int) -> None:
        """Return when so many inferences are at work."""
        async with asyncio.timeout(30):
            while self.at_work < count:
                self._changed.clear()
                await self._changed.wait()

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        raise Unsupported("a detector takes no text")
        yield

    async def _health(self, *, canary: bool) -> HealthReport:
        models = (ModelHealth(name="detector", ready=self._is_ready),)
        return HealthReport(state=HealthState.READY, live=True, ready=True, models=models)

    async def _props(self) -> EngineProps:
        channels_last = self._shape[-1] == 3
        size = self._shape[-3:-1] if channels_last else self._shape[-2:]
        height, width = (side if side > 0 else 32 for side in size)
        outputs = self._declared_outputs
        if outputs is None:
            batch = self._shape[:1] if len(self._shape) == 4 else ()
            found = self._answer_of(np.zeros((3, height, width), np.float32))
            outputs = {name: (*batch, *array.shape) for name, array in found.items()}
        model = ModelProps(
            name="detector", ready=True, metadata=self._metadata,
            inputs=(TensorSpec("images", self._datatype, self._shape),),
            outputs=tuple(TensorSpec(name, "FP32", shape) for name, shape in outputs.items()),
        )  # fmt: skip
        return EngineProps(engine=self.engine, models=(model,))

    async def _infer(self, request: InferRequest) -> InferResponse:
        self.requests.append(request)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self._changed.set()
        try:
            if self.failures:
                raise self.failures.pop(0)
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(0)
            return self._respond(request)
        finally:
            self.at_work -= 1

    def _respond(self, request: InferRequest) -> InferResponse:
        values = request.inputs[0].to_numpy().astype(np.float32)
        batched = values.ndim == 4
        first = values[0] if batched else values
        pixels = self._sends(first.transpose(2, 0, 1) if self._shape[-1] == 3 else first)
        found = self._answer_of(pixels)
        if batched:
            found = {name: np.stack([array] * len(values)) for name, array in found.items()}
        outputs = tuple(Tensor.from_numpy(name, array) for name, array in found.items())
        return InferResponse(model=request.model, request_id=request.request_id, model_version="1", outputs=outputs)
