"""The client: pictures in, what they hold out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from numbers import Real
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio import to_thread

from adapter_api import (
    AdapterError,
    AdapterFailed,
    Capability,
    ConfigurationError,
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ModelNotFound,
    Tensor,
    WorkerAdapter,
)
from adapter_clients.detection.plan import Thresholds
from adapter_clients.detection.plans import Plans
from adapter_clients.detection.results import DetectionResult, DetectionTimings
from adapter_clients.detection.settings import LONGEST_S, DetectionSettings
from adapter_clients.engines import adapter_from_env, find_adapter
from adapter_clients.opening import Opening
from adapter_clients.ordered import in_order
from adapter_clients.statistics import ClientStatistics, StatisticsKeeper
from adapter_kit.images.picture import Picture
from adapter_kit.images.reading import PictureSource, open_picture
from adapter_kit.retries import Retries

T = TypeVar("T")


class DetectionClient:
    """Finds things in pictures with a detector behind any adapter. Safe for concurrent calls, on asyncio.

        async with DetectionClient.from_env() as client:
            result = await client.detect("photo.jpg")

    Args:
        adapter: What speaks to the engine. It may be open already, and then stays so; otherwise `async with`, or the
            first call, opens it, and `close` closes it.
        settings: Which model, and what it does not tell itself.
    """

    def __init__(self, adapter: WorkerAdapter, settings: DetectionSettings | None = None) -> None:
        self._adapter = adapter
        self.settings = settings or DetectionSettings()
        self._opening = Opening(adapter)
        self._plans = Plans(adapter, self.settings)
        self._kept = StatisticsKeeper()
        # Of a batch one picture is ready first, and not all of them at the same time, late.
        self._processors = asyncio.Semaphore(_processors())
        # Wrong settings show here, not at the first picture.
        _ = self.settings.class_names, self.settings.limits

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Self:
        """Return a client, not yet open, made of environment variables: `WORKER_ADAPTER_URL`, or else `TRITON_URL` and
        the other variables of the adapter, and those of `DetectionSettings.from_env`; `settings` win.

        Raises:
            ConfigurationError: A variable or a setting is unknown or wrong; it is named.
        """
        environ = dict(os.environ if environ is None else environ)
        made = DetectionSettings.from_env(environ, **settings)
        # The client repeats by itself: an adapter that did too would multiply.
        adapter = adapter_from_env({**environ, "TRITON_MAX_RETRIES": "0"}, needs=Capability.TENSORS)
        return cls(adapter, made)

    @classmethod
    def connect(
        cls, url: str, *, adapter: str | None = None, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> Self:
        """Return a client, not yet open, of the engine at `url`, as `grpc://host:8001`.

        Args:
            url: Its scheme chooses the adapter where no `adapter` is named.
            adapter, options: The adapter's name and settings.
            settings: Those of `DetectionSettings`.
        """
        made = DetectionSettings.make(**settings)
        found = find_adapter(url, name=adapter, needs=Capability.TENSORS, options=options)
        return cls(found, made)

    async def __aenter__(self) -> Self:
        await self._opening.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what the client opened; closing twice does nothing."""
        await self._opening.close()

    close = aclose

    @property
    def owns_adapter(self) -> bool:
        """Whether the client opened its adapter itself, and will close it."""
        return self._opening.owns

    @property
    def enabled(self) -> bool:
        """Whether `TRITON_ENABLED`, or the setting, has detection switched on: it is unless they say no."""
        return self.settings.enabled

    async def detect(
        self, image: PictureSource, *, model: str | None = None, confidence: float | None = None,
        iou: float | None = None, timeout_s: float | None = None,
    ) -> DetectionResult:  # fmt: skip
        """Return what a picture holds, in pixels of the upright picture.

        Args:
            image: An encoded picture (JPEG, PNG, WebP, BMP, GIF, TIFF) as bytes or a path; a Pillow image; or an array
                [height, width, 3] of uint8, in the settings' `array_order`.
            model, confidence, iou, timeout_s: Instead of the settings' own.

        Raises:
            InvalidRequest: The picture cannot be read, or is too large; nothing was sent.
            ConfigurationError: No model is named, detection is switched off, or settings do not fit the model.
            Unsupported: The model is for something else, or its layout cannot be told; the message says what to set.
            DeadlineExceeded: It took longer than it may, repetitions included.
            AdapterError: What the engine or the way to it came to, when it may not be tried again, or not any more.
        """
        self._kept.requests += 1
        began = perf_counter()
        try:
            result = await self._detect(image, model, Thresholds(_share(confidence), _share(iou)), timeout_s, began)
        except AdapterError as exc:
            self._kept.note_failure(exc.code)
            raise
        except Exception:  # a bug of somebody's: it is no answer
            self._kept.note_failure(AdapterFailed.code)
            raise
        except BaseException:
            self._kept.cancelled += 1
            raise
        self._kept.note_success(result.timings.total_s)
        return result

    async def detect_batch(
        self, images: Iterable[PictureSource], *, model: str | None = None, confidence: float | None = None,
        iou: float | None = None, timeout_s: float | None = None,
    ) -> list[DetectionResult | AdapterError]:  # fmt: skip
        """Return for each picture, in order, what it holds, or the error that it came to.

        At most `max_in_flight` are read, sent and decoded at once; `timeout_s` is for each.

        Raises:
            InvalidRequest: It is a single picture, or there are more than `max_batch`; nothing was sent. `detect_each`
                takes any number.
        """
        if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(images, "shape"):
            raise InvalidRequest("a batch is a list of pictures: put a single one in brackets")
        chosen: list[PictureSource] = []
        for image in images:
            if len(chosen) == self.settings.max_batch:
                raise InvalidRequest(
                    f"a batch has more than {self.settings.max_batch:,} pictures; use detect_each, or raise max_batch"
                )
            chosen.append(image)
        each = self.detect_each(chosen, model=model, confidence=confidence, iou=iou, timeout_s=timeout_s)
        return [result async for result in each]

    def detect_each(
        self, images: Iterable[PictureSource] | AsyncIterable[PictureSource], *, model: str | None = None,
        confidence: float | None = None, iou: float | None = None, timeout_s: float | None = None,
    ) -> AsyncIterator[DetectionResult | AdapterError]:  # fmt: skip
        """Iterate, in order, over what each of any number of pictures holds, or the error that it came to.

        Pictures are taken from `images` as there is room, `max_in_flight` at once; leaving early cancels those.
        """

        async def one(image: PictureSource) -> DetectionResult | AdapterError:
            try:
                return await self.detect(image, model=model, confidence=confidence, iou=iou, timeout_s=timeout_s)
            except AdapterError as exc:
                return exc

        return in_order(images, one, at_once=self.settings.max_in_flight)

    async def is_healthy(self, model: str | None = None) -> bool:
        """Return whether the engine takes work, and the model too where one is named or set. Raises nothing of the
        contract, is bounded in time, and sends no picture."""
        name = model or self.settings.model
        try:
            await self._opening.open()
            report = await self._adapter.health()
        except AdapterError:
            return False
        found = [each.ready for each in report.models if each.name == name]
        if name is None or (not found and not report.models_listed):
            return report.ready
        return report.ready and any(found)

    def statistics(self) -> ClientStatistics:
        """Return what was done since the client was made."""
        return self._kept.read()

    async def _detect(
        self, image: PictureSource, model: str | None, thresholds: Thresholds, timeout_s: float | None, began: float
    ) -> DetectionResult:
        settings = self.settings
        if not settings.enabled:
            raise ConfigurationError("detection is switched off: set TRITON_ENABLED=true (or enabled=True)")
        name = model or settings.model
        if name is None:
            raise ConfigurationError("which model? Set TRITON_MODEL, or give model='…'")
        await self._opening.open()
        timeout_s = settings.timeout_s if timeout_s is None else timeout_s
        if not isinstance(timeout_s, Real) or not 0 < timeout_s <= LONGEST_S:
            raise InvalidRequest(f"timeout_s is more than 0 and at most {LONGEST_S:,} seconds, not {timeout_s!r}")
        ends = asyncio.get_running_loop().time() + timeout_s
        async with self._processors:
            picture = await to_thread.run_sync(_read, image, settings)
        width, height = picture.width, picture.height
        read = perf_counter()
        attempts = _Attempts(settings.max_retries, ends)
        try:
            async with asyncio.timeout_at(ends):
                plan = await attempts.make(lambda: self._plans.get(name))
                async with self._processors:
                    tensors, placement = await to_thread.run_sync(plan.place, picture)
                del picture
                placed = perf_counter()
                response = await self._infer(name, tensors, attempts)
                inferred = perf_counter()
                choice, found = await to_thread.run_sync(plan.read, response, placement, thresholds)
        except TimeoutError:
            raise DeadlineExceeded(
                f"model {name!r} had no result within {timeout_s:g} s; raise timeout_s", stage="total"
            ) from None
        finally:
            self._kept.retries += attempts.repeated
        done = perf_counter()
        return DetectionResult(
            detections=found, width=width, height=height, model=name, model_version=response.model_version,
            layout=choice.layout, layout_reason=choice.reason, attempts=attempts.repeated + 1,
            timings=DetectionTimings(
                read_s=read - began, place_s=placed - read, infer_s=inferred - placed, decode_s=done - inferred,
                total_s=done - began,
            ),
        )  # fmt: skip

    async def _infer(self, model: str, tensors: tuple[Tensor, ...], attempts: _Attempts) -> InferResponse:
        async def once() -> InferResponse:
            request = InferRequest(
                model=model, model_version=self.settings.model_version, inputs=tensors, timeout_s=attempts.left_s
            )  # fmt: skip
            return await self._adapter.infer(request)

        try:
            return await attempts.make(once)
        except (InvalidRequest, ModelNotFound):
            self._plans.forget(model)  # it may have been replaced by another since it was looked at
            raise


class _Attempts:
    """The attempts at one picture, whatever they are at. A picture changes nothing in an engine: it may come twice."""

    def __init__(self, repetitions: int, ends: float) -> None:
        self._retries = Retries(repetitions, here_only=True)
        self._ends = ends
        self.repeated = 0

    @property
    def left_s(self) -> float:
        return max(self._ends - asyncio.get_running_loop().time(), 0.001)

    async def make(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except AdapterError as exc:
                if not await self._retries.again(exc, ends=self._ends):
                    raise
                self.repeated += 1


def _processors() -> int:
    """Return how many pictures are worth being decoded at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(image: PictureSource, settings: DetectionSettings) -> Picture:
    return open_picture(image, settings.limits, array_order=settings.array_order)


def _share(value: float | None) -> float | None:
    if value is not None and not (isinstance(value, Real) and 0 <= value <= 1):
        raise InvalidRequest(f"confidence and iou are between 0 and 1, not {value!r}")
    return value
