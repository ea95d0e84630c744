"""Its settings pass over options that they do not know."""

from __future__ import annotations

import msgspec

from adapter_api import AdapterPlugin, hookimpl
from conformance_tests.reference.plugin import RECORD


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return msgspec.structs.replace(RECORD, settings="conformance_tests.mutants.plugins.settings:LaxSettings")
