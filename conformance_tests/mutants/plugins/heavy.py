"""It imports what only running tasks needs."""

from __future__ import annotations

import numpy

from conformance_tests.reference.plugin import worker_adapter_collectors, worker_adapter_register

__all__ = ["numpy", "worker_adapter_collectors", "worker_adapter_register"]
