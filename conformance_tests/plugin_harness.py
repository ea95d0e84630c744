"""A harness for any installed adapter whose author supplies none: plain tasks only, no faults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

import anyio

from adapter_api import AdapterError, AdapterPlugin, WorkerAdapter
from conformance_tests.harness import Backend, Harness
from conformance_tests.outcome import HarnessBroke

PROMPT_OPTION, MODEL_OPTION = "prompt", "model"
"""`--option`s that are the harness's own; all others are the adapter's settings."""


class PluginHarness(Harness):
    """Makes adapters of a plugin's record. Takes the first model that the engine lists unless `model` is given."""

    def __init__(self, record: AdapterPlugin, options: Mapping[str, str]) -> None:
        own = {name: options[name] for name in (PROMPT_OPTION, MODEL_OPTION) if name in options}
        self._record = record
        self._options = {name: value for name, value in options.items() if name not in own}
        self.name = self.plugin = record.name
        self.model = own.get(MODEL_OPTION, "")
        self.prompt = own.get(PROMPT_OPTION, Harness.prompt)

    def start(self) -> None:
        if not self.model:
            self.model = anyio.run(self._first_model, backend=self.backend)

    def adapter(self) -> WorkerAdapter:
        return self._record.create(self._options, environ=os.environ)

    async def _first_model(self) -> str:
        try:
            async with self._record.create(self._options, environ=os.environ) as adapter:
                listed = [model.name for model in (await adapter.props()).models]
        except AdapterError as exc:
            raise HarnessBroke(f"the engine could not be asked for its models: {exc}") from exc
        if not listed:
            raise HarnessBroke("the engine lists no model; name one with --option model=NAME")
        return listed[0]


def harness_for(record: AdapterPlugin, options: Mapping[str, str], backend: Backend | None = None) -> Harness:
    """Return the plugin's own harness, made with `options`, or a plain one.

    Raises:
        AdapterError: The plugin's harness cannot be loaded.
        TypeError: The harness does not take one of the options.
    """
    if record.harness is None:
        harness: Harness = PluginHarness(record, options)
    else:
        harness = cast(Harness, record.load("harness").from_options(options))
        harness.plugin = harness.plugin or record.name
    if backend is not None:
        harness.backend = backend
    return harness
