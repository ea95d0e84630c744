"""ORCH-3054, and the metrics of plugins."""

from __future__ import annotations

from adapter_api import TaskRequest
from conformance_tests.mutants.breaking import breaks, breaks_plugin
from conformance_tests.mutants.plugins import job_labels
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Job

_PLUGINS = "conformance_tests.mutants.plugins"

breaks_plugin("ORCH-3054-001", f"{_PLUGINS}.broken")
breaks_plugin("ORCH-3054-002", f"{_PLUGINS}.heavy")
breaks_plugin("ORCH-3054-003", f"{_PLUGINS}.wrong_class")
breaks_plugin("ORCH-3054-004", f"{_PLUGINS}.later_contract")
breaks_plugin("ORCH-3054-005", f"{_PLUGINS}.unlisted_capabilities")
breaks_plugin("ORCH-3054-006", f"{_PLUGINS}.lax_settings")
breaks_plugin("ORCH-3054-007", f"{_PLUGINS}.silent")
breaks_plugin("ORCH-3062-005", f"{_PLUGINS}.wide_labels")
breaks_plugin("ORCH-3062-006", f"{_PLUGINS}.odd_names")


@breaks("ORCH-3062-005", plugin=job_labels.__name__)
class CountsEachTaskByItself(ReferenceAdapter):
    """Has a time series for each task, under a label that is allowed."""

    async def _begin(self, task: TaskRequest) -> Job:
        job_labels.TASKS.labels(self.engine, task.job_id).inc()
        return await super()._begin(task)
