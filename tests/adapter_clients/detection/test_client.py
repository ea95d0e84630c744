"""The client: batches, repetitions, deadlines, health, statistics, settings, and its sync twin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapter_api import (
    AdapterClosed,
    AdapterError,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
)
from adapter_clients import DetectionClient, DetectionResult, DetectionSettings, SyncDetectionClient
from adapter_kit import retries
from adapter_kit.images import FORMATS
from tests.adapter_clients.detection.detectors import NAMES, PLAIN, DetectorAdapter, raw
from tests.adapter_kit.test_images import bomb, claiming, saved, truncated

pytestmark = pytest.mark.anyio


@pytest.fixture
def adapter() -> DetectorAdapter:
    return DetectorAdapter(raw(2100), metadata=NAMES)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_S", 0.0001)


def client_of(adapter: DetectorAdapter, **settings: Any) -> DetectionClient:
    return DetectionClient(adapter, DetectionSettings.make(**{"model": "detector", **settings}))


@pytest.mark.spec("ORCH-3069-014", "ORCH-3069-001")
async def test_a_batch_gives_each_picture_its_result_or_error_in_order(adapter: DetectorAdapter) -> None:
    async with client_of(adapter) as client:
        found = await client.detect_batch([PLAIN, b"no picture", PLAIN[:, ::-1], "no/such/file.jpg", PLAIN])

    kinds = [type(each) for each in found]
    assert kinds == [DetectionResult, InvalidRequest, DetectionResult, InvalidRequest, DetectionResult]
    mirrored = found[2]
    assert isinstance(mirrored, DetectionResult)
    assert tuple(mirrored.detections[0].box) == (440, 60, 600, 160)
    assert len(adapter.requests) == 3


@pytest.mark.spec("ORCH-3069-014")
async def test_no_more_pictures_are_at_work_than_may_be(adapter: DetectorAdapter) -> None:
    adapter.hold = asyncio.Event()
    taken = 0

    def pictures() -> Iterator[Any]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield PLAIN

    async with client_of(adapter, max_in_flight=3) as client:
        results = client.detect_each(pictures())
        first = asyncio.ensure_future(anext(results))
        await adapter.until_at_work(3)
        assert taken == 3
        adapter.hold.set()
        assert isinstance(await first, DetectionResult)
        assert len([each async for each in results]) == 49

    assert adapter.most_at_work == 3


@pytest.mark.spec("ORCH-3069-014")
async def test_leaving_early_cancels_what_is_at_work(adapter: DetectorAdapter) -> None:
    adapter.hold = asyncio.Event()
    async with client_of(adapter) as client:
        results = client.detect_each([PLAIN] * 8)
        first = asyncio.ensure_future(anext(results))
        await adapter.until_at_work(8)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

        assert adapter.at_work == 0
        adapter.hold.set()
        assert (await client.detect(PLAIN)).detections


@pytest.mark.spec("ORCH-3069-015")
async def test_a_batch_of_ten_thousand_is_refused_before_anything_is_sent(adapter: DetectorAdapter) -> None:
    async with client_of(adapter) as client:
        with pytest.raises(InvalidRequest, match=r"1,000.*detect_each"):
            await client.detect_batch(PLAIN for _ in range(10_000))

        assert not adapter.requests
        assert await client.detect_batch([]) == []


@pytest.mark.spec("ORCH-3069-015")
@pytest.mark.parametrize("single", ["photo.jpg", b"photo", PLAIN])
async def test_a_single_picture_is_not_taken_apart_as_a_batch(adapter: DetectorAdapter, single: Any) -> None:
    async with client_of(adapter) as client:
        with pytest.raises(InvalidRequest, match="brackets"):
            await client.detect_batch(single)

    assert not adapter.requests


@pytest.mark.spec("ORCH-3069-001", "ORCH-3069-002")
async def test_after_bad_pictures_of_every_kind_the_client_works_on(adapter: DetectorAdapter, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(200_000_000)  # of nothing: it takes no room on the disk
    bad: list[Any] = [
        b"", b"text", "no/such/file.jpg", "/", str(large), bytes(60_000_000), None, 7,
        np.zeros((4, 4)), np.zeros((0, 0, 3), np.uint8), np.zeros((13_400, 13_400), np.bool_),
        *(truncated(format) for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")),
        *(claiming(format, 13_400, 13_400) for format in FORMATS), bomb(0, 0), claiming("JPEG", 0, 40),
        *(saved(Image.new("RGB", (32, 32)), format) for format in ("EPS", "PPM", "ICO", "TGA", "JPEG2000")),
        saved(Image.new("F", (4, 4)), "TIFF"), Image.new("F", (4, 4)),
    ]  # fmt: skip
    async with client_of(adapter) as client:
        for each in bad:
            with pytest.raises(InvalidRequest):
                await client.detect(each)
        found = await client.detect_batch(bad)
        assert [type(each) for each in found] == [InvalidRequest] * len(bad)
        assert not adapter.requests

        assert (await client.detect(PLAIN)).detections[0].class_name == "red"
        assert client.statistics().failures == {"invalid_request": 2 * len(bad)}


@pytest.mark.spec("ORCH-3069-016")
@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    "error",
    [
        ConnectFailed("x"),
        ConnectionLost("x"),
        NotReady("x"),
        Overloaded("x"),
        DeadlineExceeded("x", stage="queue"),
        EngineFailed("x", retryable=True),
    ],
    ids=lambda error: error.code,
)
async def test_what_may_be_tried_again_is(adapter: DetectorAdapter, error: AdapterError) -> None:
    adapter.failures = [error, error]
    async with client_of(adapter, max_retries=2) as client:
        result = await client.detect(PLAIN)

        assert result.attempts == 3
        assert client.statistics().retries == 2

        adapter.failures = [error] * 3
        with pytest.raises(type(error)):
            await client.detect(PLAIN)
        assert client.statistics().failures == {error.code: 1}


@pytest.mark.spec("ORCH-3069-016")
@pytest.mark.parametrize("error", [InvalidRequest("x"), EngineFailed("x"), ModelNotFound("x")], ids=lambda e: e.code)
async def test_what_would_be_the_same_again_is_not_tried_again(adapter: DetectorAdapter, error: AdapterError) -> None:
    adapter.failures = [error]
    async with client_of(adapter) as client:
        with pytest.raises(type(error)):
            await client.detect(PLAIN)

    assert len(adapter.requests) == 1


@pytest.mark.spec("ORCH-3069-016")
async def test_an_engine_that_names_a_time_is_not_asked_before(adapter: DetectorAdapter) -> None:
    adapter.failures = [Overloaded("x", retry_after_s=0.2)]
    loop = asyncio.get_running_loop()
    async with client_of(adapter) as client:
        began = loop.time()
        await client.detect(PLAIN)

    assert loop.time() - began >= 0.2


@pytest.mark.spec("ORCH-3069-017")
async def test_the_time_of_a_picture_bounds_its_repetitions(adapter: DetectorAdapter) -> None:
    adapter.failures = [Overloaded("busy", retry_after_s=60)]
    async with client_of(adapter) as client:
        with pytest.raises(Overloaded):
            await client.detect(PLAIN, timeout_s=0.5)
        assert len(adapter.requests) == 1

        adapter.hold = asyncio.Event()
        with pytest.raises(DeadlineExceeded, match=r"'detector'.*0\.1 s"):
            await client.detect(PLAIN, timeout_s=0.1)
        assert adapter.requests[-1].timeout_s is not None
        assert adapter.requests[-1].timeout_s <= 0.1
        adapter.hold.set()
        assert (await client.detect(PLAIN)).detections


@pytest.mark.spec("ORCH-3069-018")
async def test_health_is_told_without_an_inference_or_an_error(adapter: DetectorAdapter) -> None:
    async with client_of(adapter) as client:
        assert await client.is_healthy()
        assert not await client.is_healthy("another")
    assert not await client.is_healthy()  # closed
    assert not adapter.requests

    asleep = DetectorAdapter(raw(2100), ready=False)
    async with client_of(asleep) as client:
        assert not await client.is_healthy()


@pytest.mark.spec("ORCH-3069-018")
async def test_a_server_that_is_not_there_is_not_healthy_and_a_picture_says_so() -> None:
    async with DetectionClient.connect("grpc://127.0.0.1:1", model="m", max_retries=1) as client:
        assert not await client.is_healthy()
        with pytest.raises(ConnectFailed):
            await client.detect(PLAIN)


@pytest.mark.spec("ORCH-3069-019")
async def test_statistics_count(adapter: DetectorAdapter) -> None:
    async with client_of(adapter) as client:
        empty = client.statistics()
        assert (empty.requests, empty.success_rate, empty.latency_p50_s) == (0, None, None)

        await client.detect_batch([PLAIN, b"", PLAIN, PLAIN])
        adapter.failures = [EngineFailed("x")]
        with pytest.raises(EngineFailed):
            await client.detect(PLAIN)
        found = client.statistics()

    assert (found.requests, found.succeeded, found.failed) == (5, 3, 2)
    assert found.failures == {"invalid_request": 1, "engine_failed": 1}
    assert found.success_rate == 0.6
    assert found.latency_p50_s is not None
    assert found.latency_p99_s is not None
    assert 0 < found.latency_p50_s <= found.latency_p99_s


@pytest.mark.spec("ORCH-3069-019")
@pytest.mark.usefixtures("short_pauses")
async def test_each_picture_is_counted_once_however_it_ends(
    adapter: DetectorAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Exception):
        pass

    def broken(*_: object) -> object:
        raise Broken

    async with client_of(adapter, max_retries=2) as client:
        await client.detect(PLAIN)
        adapter.failures = [NotReady("x")] * 2  # well in the end
        await client.detect(PLAIN)
        adapter.failures = [NotReady("x")] * 3
        with pytest.raises(NotReady):
            await client.detect(PLAIN)
        adapter.hold = asyncio.Event()
        with pytest.raises(DeadlineExceeded):
            await client.detect(PLAIN, timeout_s=0.05)
        with pytest.raises(TimeoutError):  # the caller's own
            async with asyncio.timeout(0.05):
                await client.detect(PLAIN)
        waiting = asyncio.ensure_future(client.detect(PLAIN))
        adapter.failures = [NotReady("x")]
        retried = asyncio.ensure_future(client.detect(PLAIN))
        await adapter.until_at_work(2)
        running = client.statistics()
        for each in (waiting, retried):
            each.cancel()
        ended = await asyncio.gather(waiting, retried, return_exceptions=True)
        early = asyncio.ensure_future(client.detect(PLAIN))
        early.cancel()  # before it began
        await asyncio.gather(early, return_exceptions=True)
        leaving = client.detect_each([PLAIN] * 3)
        first = asyncio.ensure_future(anext(leaving))
        await adapter.until_at_work(3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await leaving.aclose()  # type: ignore[attr-defined]
        adapter.hold = None
        monkeypatch.setattr(client._plans, "get", broken)
        with pytest.raises(Broken):
            await client.detect(PLAIN)
        found = client.statistics()

    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
    assert (running.requests, running.succeeded, running.failed, running.cancelled) == (7, 2, 2, 1)
    assert found.succeeded == 2
    assert found.failures == {"not_ready": 1, "deadline_exceeded": 1, "adapter_failed": 1}
    assert found.retries == 2 + 2 + 1
    assert (found.requests, found.cancelled) == (11, 6)
    assert found.requests == found.succeeded + found.failed + found.cancelled
    assert found.success_rate == 2 / 5


@pytest.mark.spec("ORCH-3069-020")
def test_settings_are_read_from_the_environment() -> None:
    client = DetectionClient.from_env(
        {
            "TRITON_ENABLED": "true", "TRITON_URL": "grpc://127.0.0.1:1", "TRITON_MODEL": "yolo",
            "TRITON_TIMEOUT": "7", "TRITON_MAX_RETRIES": "5", "TRITON_CONFIDENCE_THRESHOLD": "0.4",
        },
        iou=0.6,
    )  # fmt: skip

    settings = client.settings
    assert (settings.model, settings.timeout_s, settings.max_retries) == ("yolo", 7, 5)
    assert (settings.confidence, settings.iou, client.enabled) == (0.4, 0.6, True)
    assert DetectionSettings.from_env({}).confidence == 0.5


@pytest.mark.spec("ORCH-3069-020")
async def test_an_engine_is_named_by_its_url_whatever_the_client() -> None:
    named = DetectionClient.from_env({"WORKER_ADAPTER_URL": "http+v2://127.0.0.1:1", "TRITON_MODEL": "yolo"})
    async with named:
        with pytest.raises(ConnectFailed, match=r"http\+v2://127.0.0.1:1"):
            await named.detect(PLAIN, timeout_s=2)


@pytest.mark.spec("ORCH-3069-020")
@pytest.mark.parametrize(
    "variable, value",
    [
        ("TRITON_CONFIDENCE_THRESHOLD", "1.5"),
        ("TRITON_MAX_RETRIES", "many"),
        ("TRITON_TIMEOUT", "-1"),
        ("TRITON_ENABLED", "perhaps"),
    ],
)
def test_a_variable_that_is_wrong_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        DetectionClient.from_env({variable: value})


@pytest.mark.spec("ORCH-3069-020")
async def test_detection_that_is_switched_off_says_so(adapter: DetectorAdapter) -> None:
    off = DetectionSettings.from_env({"TRITON_ENABLED": "false", "TRITON_MODEL": "detector"})
    async with DetectionClient(adapter, off) as client:
        assert not client.enabled
        with pytest.raises(ConfigurationError, match="TRITON_ENABLED"):
            await client.detect(PLAIN)


async def test_an_unknown_setting_is_named_and_a_missing_model_too(adapter: DetectorAdapter) -> None:
    with pytest.raises(ConfigurationError, match="confidance"):
        DetectionSettings.make(confidance=0.5)
    async with client_of(adapter, model=None) as client:
        with pytest.raises(ConfigurationError, match="TRITON_MODEL"):
            await client.detect(PLAIN)


async def test_what_a_model_declares_is_asked_for_once_and_again_when_it_refuses(adapter: DetectorAdapter) -> None:
    asked = 0
    original = adapter._props

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        return await original()

    adapter._props = counted  # type: ignore[method-assign]
    async with client_of(adapter) as client:
        await client.detect_batch([PLAIN] * 20)
        assert asked == 1
        adapter.failures = [InvalidRequest("another shape")]
        with pytest.raises(InvalidRequest):
            await client.detect(PLAIN)
        await client.detect(PLAIN)

    assert asked == 2


@pytest.mark.spec("ORCH-3069-017")
@pytest.mark.parametrize(
    "wanted",
    [{"timeout_s": wrong} for wrong in (0, -1, float("nan"), "5")]
    + [{"confidence": wrong} for wrong in ("0.5", float("nan"))]
    + [{"iou": 2}],
)
async def test_a_wish_that_is_none_is_refused_before_anything_is_sent(
    adapter: DetectorAdapter, wanted: dict[str, Any]
) -> None:
    async with client_of(adapter) as client:
        with pytest.raises(InvalidRequest, match=r"timeout_s|confidence"):
            await client.detect(PLAIN, **wanted)
        assert not adapter.requests
        assert (await client.detect(PLAIN, confidence=0.5)).detections


@pytest.mark.spec("ORCH-3069-020")
async def test_a_client_that_nobody_enters_opens_with_its_first_call_and_is_closed_once(
    adapter: DetectorAdapter,
) -> None:
    client = client_of(adapter)

    assert await client.is_healthy()
    found = await client.detect_batch([PLAIN, PLAIN])
    await client.close()
    await client.close()

    assert [type(each) for each in found] == [DetectionResult, DetectionResult]
    with pytest.raises(AdapterClosed):
        await client.detect(PLAIN)


@pytest.mark.spec("ORCH-3069-020")
async def test_an_adapter_that_is_open_already_stays_so(adapter: DetectorAdapter) -> None:
    async with adapter:
        async with client_of(adapter) as client:
            assert not client.owns_adapter
        assert (await adapter.health()).ready


@pytest.mark.spec("ORCH-3069-021")
def test_the_sync_twin_gives_the_same_and_leaves_no_thread(adapter: DetectorAdapter) -> None:
    before = set(threading.enumerate())
    with SyncDetectionClient(adapter, DetectionSettings.make(model="detector")) as client:
        assert client.is_healthy()
        assert tuple(client.detect(PLAIN).detections[0].box) == (40, 60, 200, 160)
        assert [type(each) for each in client.detect_batch([PLAIN, b""])] == [DetectionResult, InvalidRequest]
        for each in client.detect_each([PLAIN] * 100):
            assert isinstance(each, DetectionResult)
            break
        with pytest.raises(InvalidRequest):
            client.detect(b"")
        assert client.statistics().failed == 2

    assert not _left_since(before)
    with pytest.raises(AdapterClosed):
        client.detect(PLAIN)


@pytest.mark.spec("ORCH-3069-021")
def test_a_sync_twin_that_cannot_open_leaves_no_thread(adapter: DetectorAdapter) -> None:
    before = set(threading.enumerate())
    with SyncDetectionClient(adapter), pytest.raises(AdapterClosed), SyncDetectionClient(adapter):
        pass

    assert not _left_since(before)


def _left_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that are there and were not, once each had time to end by itself."""
    new = set(threading.enumerate()) - before
    for thread in new:
        thread.join(10)
    return [thread for thread in new if thread.is_alive()]
