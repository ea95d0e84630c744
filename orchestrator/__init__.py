"""A host that discovers adapters, keeps pools of replicas healthy, and dispatches tasks to them.

    settings = OrchestratorSettings.parse({"pools": [{"adapter": "mock", "replicas": [{"id": "r0"}]}]})
    async with Orchestrator(settings) as orchestrator:
        async for event in orchestrator.submit(TaskRequest(model="mock", prompt="Hello")):
            ...

`host.py` is what a program holds and asks. `intake.py` makes a ticket (`ticket.py`) of a task (`tasks.py`) or of an
inference on tensors (`tensors.py`), in the pool that `pool_choice.py` finds; it waits in the pool's line (`pools.py`,
`admission.py`) for a slot of a replica (`replica.py`; `routing.py` chooses), and runs in `dispatch.py` (`retry.py`,
`breaker.py`). `fleet.py` opens, drains and reloads pools, `monitor.py` watches replicas (`hysteresis.py`), `ledger.py`
writes down what happens.
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
