"""It was written for a later contract."""

from __future__ import annotations

import msgspec

from adapter_api import AdapterPlugin, hookimpl
from conformance_tests.reference.plugin import RECORD


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return msgspec.structs.replace(RECORD, api_version="2.0")
