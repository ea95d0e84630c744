"""The sync twin, for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from adapter_api import AdapterError, WorkerAdapter
from adapter_clients.blocking import Blocking
from adapter_clients.detection.client import DetectionClient
from adapter_clients.detection.results import DetectionResult
from adapter_clients.detection.settings import DetectionSettings
from adapter_clients.statistics import ClientStatistics
from adapter_kit.images.reading import PictureSource


class SyncDetectionClient(Blocking[DetectionClient]):
    """`DetectionClient` without `await`; safe for concurrent calls from several threads.

        with SyncDetectionClient.from_env() as client:
            result = client.detect("photo.jpg")

    The adapter of `SyncDetectionClient(adapter)` has to be new: the client opens it in an event loop of its
    own, and closes it.
    """

    def __init__(self, adapter: WorkerAdapter, settings: DetectionSettings | None = None) -> None:
        super().__init__(lambda: DetectionClient(adapter, settings))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Self:
        """As `DetectionClient.from_env`."""
        return cls._of(DetectionClient.from_env(environ, **settings))

    @classmethod
    def connect(
        cls, url: str, *, adapter: str | None = None, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> Self:
        """As `DetectionClient.connect`."""
        return cls._of(DetectionClient.connect(url, adapter=adapter, options=options, **settings))

    @classmethod
    def _of(cls, client: DetectionClient) -> Self:
        twin = cls.__new__(cls)
        Blocking.__init__(twin, lambda: client)
        return twin

    def detect(self, image: PictureSource, **wanted: Any) -> DetectionResult:
        """As `DetectionClient.detect`."""
        return self._call(lambda client: client.detect(image, **wanted))

    def detect_batch(self, images: Iterable[PictureSource], **wanted: Any) -> list[DetectionResult | AdapterError]:
        """As `DetectionClient.detect_batch`."""
        return self._call(lambda client: client.detect_batch(images, **wanted))

    def detect_each(self, images: Iterable[PictureSource], **wanted: Any) -> Iterator[DetectionResult | AdapterError]:
        """As `DetectionClient.detect_each`."""
        return self._iterate(lambda client: client.detect_each(images, **wanted))

    def is_healthy(self, model: str | None = None) -> bool:
        """As `DetectionClient.is_healthy`."""
        return self._call(lambda client: client.is_healthy(model))

    def statistics(self) -> ClientStatistics:
        """As `DetectionClient.statistics`."""
        _, client = self._opened()
        return client.statistics()
