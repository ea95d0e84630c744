"""Its record names a class that is no adapter."""

from __future__ import annotations

import msgspec

from adapter_api import AdapterPlugin, hookimpl
from conformance_tests.reference.plugin import RECORD


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return msgspec.structs.replace(RECORD, adapter="conformance_tests.reference.engine:Engine")
