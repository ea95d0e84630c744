"""Any adapter as a worker of NVIDIA Dynamo. Importing it imports nothing of Dynamo: `dynamo_worker.cluster` does."""

from __future__ import annotations

from dynamo_worker.faults import FAULTS, Fault
from dynamo_worker.settings import WorkerSettings
from dynamo_worker.worker import DynamoWorker

__all__ = ["DynamoWorker", "WorkerSettings", "FAULTS", "Fault"]
