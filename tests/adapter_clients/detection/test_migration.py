"""From an old detection service to Triton behind one host: in its shadow, by weight, and the boxes compared."""

from __future__ import annotations

import base64
import importlib
import io
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from adapter_api import End, PluginHost, Started, TaskRequest, Token
from adapter_api.testing import collect
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.rollout.boxes import match_boxes
from orchestrator.rollout.page import render
from tests.adapter_clients.detection.detectors import PLAIN, RED, picture
from tests.orchestrator.pools.test_monitor import eventually
from tests.project.repository import ROOT
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.anyio

EXAMPLE = ROOT / "examples" / "detection"


@pytest.fixture
def old_service() -> Iterator[str]:
    sys.path.insert(0, str(EXAMPLE))
    server = importlib.import_module("old_detector").serve(0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        sys.path.remove(str(EXAMPLE))


def host_of(old_url: str, triton_url: str, **triton: Any) -> Orchestrator:
    plugins = PluginHost()
    plugins.add("detection", importlib.import_module("detection_adapters.plugin"))
    new = {"url": triton_url, "detection": {"confidence": 0.5}}
    pools = [
        {"id": "old", "adapter": "old-detector", "replicas": [{"id": "r0", "options": {"url": old_url}}]},
        {"id": "triton", "adapter": "detector", "replicas": [{"id": "r0", "options": new}], **triton},
    ]
    settings = OrchestratorSettings.parse({"pools": pools, "read_environment": False})
    return Orchestrator(settings, plugins=plugins)


def task(pixels: Any) -> TaskRequest:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    image = {"type": "image", "data": base64.b64encode(target.getvalue()).decode()}
    return TaskRequest.parse({"model": "colours", "messages": [{"role": "user", "content": [image]}]})


@pytest.mark.live
@pytest.mark.spec("ORCH-3069-023")
async def test_in_the_shadow_the_old_service_answers_and_the_report_compares_boxes(
    old_service: str, triton: EmbeddedTriton
) -> None:
    async with host_of(old_service, triton.grpc_url, shadow_of="old", shadow_compare="boxes") as host:
        for pixels in (PLAIN, picture(640, 480, (RED, 3, 5, 55, 68)), picture(320, 240)):
            events = await collect(host.submit(task(pixels)))
            assert isinstance(events[0], Started)
            assert events[0].pool_id == "old"
            assert isinstance(events[-1], End)

        await eventually(lambda: host.rollout_report().agreements[0].compared == 3)
        found = host.rollout_report().agreements[0].boxes
        page = render(host.rollout_report())

    assert found is not None
    assert "Agreement of boxes" in page
    assert (found.compared, found.same, found.unreadable) == (3, 3, 0)
    assert found.matched.p50 == 100
    assert found.overlap.count == 4
    assert found.overlap.p50 is not None
    assert found.overlap.p50 > 90


@pytest.mark.live
@pytest.mark.spec("ORCH-3069-023")
async def test_by_weight_both_answer_with_the_same_boxes(old_service: str, triton: EmbeddedTriton) -> None:
    answers: dict[str | None, set[str]] = {}
    async with host_of(old_service, triton.grpc_url, weight=100) as host:
        for _ in range(12):
            events = await collect(host.submit(task(PLAIN)))
            pool = next(event.pool_id for event in events if isinstance(event, Started))
            text = "".join(event.text for event in events if isinstance(event, Token))
            answers.setdefault(pool, set()).add(text)

    assert answers.keys() == {"old", "triton"}
    (old,), (new,) = answers["old"], answers["triton"]
    match = match_boxes(old, new)
    assert match is not None
    assert (match.share, match.overlaps) == (1.0, (1.0, 1.0, 1.0))


def told(*boxes: tuple[str, float, float, float, float]) -> str:
    return json.dumps({"detections": [{"class_name": name, "box": list(box)} for name, *box in boxes]})


@pytest.mark.spec("ORCH-3069-023")
def test_boxes_are_partners_by_class_and_overlap_the_best_first() -> None:
    mine = told(("a", 0, 0, 10, 10), ("a", 20, 0, 30, 10), ("b", 0, 0, 10, 10))

    same = match_boxes(mine, mine)
    assert same is not None
    assert (same.share, same.overlaps) == (1.0, (1.0, 1.0, 1.0))
    other_class = match_boxes(told(("a", 0, 0, 10, 10)), told(("b", 0, 0, 10, 10)))
    assert other_class is not None
    assert other_class == (0.0, ())
    # Two of theirs lie on one of mine: the better one is its partner.
    shared = match_boxes(told(("a", 0, 0, 10, 10)), told(("a", 0, 0, 10, 8), ("a", 0, 0, 10, 9)))
    assert shared is not None
    assert shared.share == pytest.approx(2 / 3)
    assert shared.overlaps == (0.9,)
    assert match_boxes(told(), told()) == (1.0, ())
    assert match_boxes(told(("a", 0, 0, 1, 1)), told()) == (0.0, ())


@pytest.mark.spec("ORCH-3069-023")
@pytest.mark.parametrize(
    "answer", ["", "no JSON", "[]", "7", '{"detections": 7}', '{"detections": [{"box": [1]}]}', "[" * 9_999]
)
def test_an_answer_without_boxes_is_not_compared(answer: str) -> None:
    assert match_boxes(told(), answer) is None
