"""Short ways to the orchestrators that the tests need: pools of mock replicas."""

from __future__ import annotations

from typing import Any

from adapter_api import PluginHost, TaskRequest, WorkerAdapter, mock_plugin
from orchestrator import Orchestrator, OrchestratorSettings

QUICK_HEALTH = {"interval_s": 0.02, "fall": 1, "rise": 1}


def settings(*replicas: dict[str, Any], **pool: Any) -> OrchestratorSettings:
    """One pool whose replicas r0, r1, … are mocks with these options; `slots` among them is the replica's own."""
    return OrchestratorSettings.parse(
        {
            "pools": [
                {
                    "adapter": "mock",
                    "replicas": [
                        {"id": f"r{i}", "slots": options.pop("slots", None), "options": options}
                        for i, options in enumerate(dict(r) for r in replicas)
                    ],
                    **pool,
                }
            ],
            "read_environment": False,
        }
    )


def mock_host() -> PluginHost:
    """A plugin host that knows the mock adapter and nothing else."""
    host = PluginHost()
    host.add("mock", mock_plugin)
    return host


def orchestrator(*replicas: dict[str, Any], plugins: PluginHost | None = None, **pool: Any) -> Orchestrator:
    """An orchestrator of one pool of mocks, not open."""
    return Orchestrator(settings(*replicas, **pool), plugins=plugins or mock_host())


def adapter_of(host: Orchestrator, replica_id: str, pool_id: str = "default") -> WorkerAdapter:
    """The open adapter of a replica."""
    adapter = host._fleet.pools[pool_id].replicas[replica_id].adapter
    assert adapter is not None
    return adapter


def task(**fields: Any) -> TaskRequest:
    return TaskRequest(**{"model": "mock", "prompt": "Hello", "max_tokens": 3, **fields})
