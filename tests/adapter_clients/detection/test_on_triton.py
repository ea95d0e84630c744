"""On a real Triton: by each way to it, through a host in front of it, and while it is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapter_api import AdapterError, ConnectFailed
from adapter_clients import DetectionClient, DetectionResult, DetectionSettings
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.adapter_clients.detection.detectors import PLAIN
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FaultProxy

pytestmark = [pytest.mark.anyio, pytest.mark.live]

FOUND = [("green", 300, 100, 420, 300), ("red", 40, 60, 200, 160), ("blue", 480, 320, 600, 440)]
"""What `colours` of the demo sees in `PLAIN`."""


def told(result: DetectionResult) -> list[tuple[object, ...]]:
    return sorted((each.class_name, *(round(value, 2) for value in each.box)) for each in result.detections)


@asynccontextmanager
async def host_in_front_of(url: str) -> AsyncIterator[str]:
    fields = {
        "pools": [{"adapter": "triton", "replicas": [{"id": "r0", "options": {"url": url}}]}],
        "read_environment": False,
        "server": {"port": 0, "shutdown_grace_s": 1},
    }
    async with serving(HostSettings.model_validate(fields)) as running:
        yield running.ready.url


@pytest.mark.spec("ORCH-3069-020", "ORCH-3069-008")
async def test_with_tritons_variables_at_a_host_it_works_as_at_triton_itself(triton: EmbeddedTriton) -> None:
    async with host_in_front_of(triton.grpc_url) as host:
        for environ in (
            {"TRITON_URL": triton.grpc_url},
            {"TRITON_URL": triton.http_url, "TRITON_PROTOCOL": "http"},
            {"TRITON_URL": host, "TRITON_PROTOCOL": "http"},
            {"TRITON_HTTP_URL": host, "TRITON_PROTOCOL": "http"},
            {"WORKER_ADAPTER_URL": host.replace("http://", "http+v2://")},
        ):
            async with DetectionClient.from_env({**environ, "TRITON_MODEL": "colours"}) as client:
                assert await client.is_healthy(), environ
                result = await client.detect(PLAIN)

            assert (result.layout, told(result)) == ("raw", sorted(FOUND)), environ
            assert result.layout_reason == "the number of class names"


@pytest.mark.spec("ORCH-3069-016", "ORCH-3069-018")
async def test_a_server_that_is_away_is_told_of_and_used_again_once_it_is_back(triton: EmbeddedTriton) -> None:
    with FaultProxy(triton.grpc_url) as proxy:
        async with TritonAdapter(TritonSettings(url=f"grpc://{proxy.address}", max_retries=0)) as adapter:
            settings = {"model": "colours", "confidence": 0.5}
            client = DetectionClient(adapter, DetectionSettings.make(**settings, max_retries=0))
            patient = DetectionClient(adapter, DetectionSettings.make(**settings, max_retries=20))
            assert told(await client.detect(PLAIN)) == sorted(FOUND)
            proxy.refuse()
            proxy.cut()
            for _ in range(2):
                with pytest.raises(AdapterError) as caught:
                    await client.detect(PLAIN, timeout_s=5)
                assert caught.value.retryable
            away = await client.detect_batch([PLAIN] * 20, timeout_s=5)
            assert [type(each) for each in away] == [ConnectFailed] * 20
            assert not await client.is_healthy()

            proxy.accept()
            assert told(await patient.detect(PLAIN, timeout_s=30)) == sorted(FOUND)
            assert await client.is_healthy()
            assert told(await client.detect(PLAIN)) == sorted(FOUND)
