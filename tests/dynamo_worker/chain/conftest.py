"""The cluster that stays as it is: a Triton, a worker with both frontends before it, and one for text alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.dynamo_worker.chain.running import HEALTH, KSERVE, OPENAI, Cluster, cluster, probed, served, until

TALKER = "talker"
"""A model that is registered for text alone."""


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("chain")) as made:
        # No more models than are asked: each takes some of the watches on files that a user of the machine may have.
        loaded = (part for name in ("addsub", "slow", "tinylm") for part in ("--load-model", name))
        made.start("triton", "-m", "worker_adapter", "triton", "--json", "--model-control-mode", "explicit", *loaded,
                   until="grpc_url")  # fmt: skip
        triton = json.loads(made.wait_for("triton", "grpc_url"))
        frontends = ("--kserve-port", str(KSERVE), "--openai-port", str(OPENAI))
        made.worker("worker", "--url", triton["grpc_url"], *frontends, "--interval", "0.2",
                    DYN_SYSTEM_PORT=str(HEALTH), DYN_GRPC_METRICS_PORT="18109")  # fmt: skip
        made.worker("talker", "--adapter", "mock", "-o", f'models=["{TALKER}"]', "-o", "reply=one two three",
                    "--face", "text", "--interval", "0.2")  # fmt: skip
        served(made)
        until(lambda: probed(made), "the frontends know of slow for tensors")
        models = ["slow", "tinylm", TALKER]
        until(lambda: made.ask("each", models=models) == [200] * 3, "the frontends know of all for text")
        yield made
