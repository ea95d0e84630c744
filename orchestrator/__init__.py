"""A host that discovers adapters, keeps pools of replicas healthy, and dispatches tasks to them.

    settings = OrchestratorSettings.parse({"pools": [{"adapter": "mock", "replicas": [{"id": "r0"}]}]})
    async with Orchestrator(settings) as orchestrator:
        async for event in orchestrator.submit(TaskRequest(model="mock", prompt="Hello")):
            ...

`host.py` is what a program holds and asks. `work/` takes a task or an inference on tensors from its arrival to its
end: `intake.py` makes a ticket of it, `dispatch.py` runs it. `pools/` are the replicas: a ticket waits in a pool's line
for a slot of one that its monitor found ready. `sessions/` remember who spoke before, `rollout/` compares new with old,
`observability/` tells of it all, `config/` is what the host is told, and `http/` are its faces.
"""

from orchestrator.config.settings import (
    BreakerSettings,
    HealthSettings,
    OrchestratorSettings,
    PoolSettings,
    QueueSettings,
    ReplicaSettings,
    RetrySettings,
    SessionSettings,
)
from orchestrator.host import Orchestrator
from orchestrator.pools.breaker import BreakerState
from orchestrator.pools.status import PoolStatus, ReplicaStatus, TaskStatus

__all__ = [
    "Orchestrator",
    # settings
    "OrchestratorSettings", "PoolSettings", "ReplicaSettings", "HealthSettings", "BreakerSettings", "QueueSettings",
    "RetrySettings", "SessionSettings",
    # what it tells about itself
    "PoolStatus", "ReplicaStatus", "TaskStatus", "BreakerState",
]  # fmt: skip
