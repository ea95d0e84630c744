"""A model's configuration, and loading and unloading it: what the final methods promise of any author's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from adapter_api import AdapterClosed, AdapterFailed, DeadlineExceeded, ProtocolViolation, Unsupported
from adapter_api.testing import MockAdapter

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3074-014")]


class Giving(MockAdapter):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.control_timeout_s = 0.05

    async def _model_config(self, model: str, version: str | None) -> Any:
        if isinstance(self.config, Exception):
            raise self.config
        if self.config is ...:
            await anyio.sleep_forever()
        return self.config

    async def _load_model(self, model: str, config: str | None, files: Mapping[str, bytes]) -> None:
        raise self.config

    async def _unload_model(self, model: str, *, dependents: bool) -> None:
        raise self.config


async def test_an_adapter_that_has_neither_says_so() -> None:
    async with MockAdapter() as adapter:
        for calling in (adapter.model_config("m"), adapter.load_model("m"), adapter.unload_model("m")):
            with pytest.raises(Unsupported, match="the mock adapter"):
                await calling


async def test_one_that_is_not_open_refuses() -> None:
    adapter = MockAdapter()
    for calling in (adapter.model_config("m"), adapter.load_model("m"), adapter.unload_model("m")):
        with pytest.raises(AdapterClosed):
            await calling


async def test_a_configuration_is_what_json_can_hold() -> None:
    async with Giving({"name": "m", "max_batch_size": 8}) as adapter:
        assert await adapter.model_config("m", "1") == {"name": "m", "max_batch_size": 8}


@pytest.mark.parametrize("wrong", [None, "{}", b"{}", [], {"a": object()}, {"a": "\ud800"}, {(1, 2): 3}])
async def test_anything_else_is_the_adapters_fault(wrong: Any) -> None:
    async with Giving(wrong) as adapter:
        with pytest.raises(ProtocolViolation, match="_model_config"):
            await adapter.model_config("m")


async def test_a_method_that_breaks_is_told_as_that_and_one_that_hangs_ends_in_time() -> None:
    async with Giving(ValueError("secret")) as adapter:
        for calling in (adapter.model_config("m"), adapter.load_model("m"), adapter.unload_model("m")):
            with pytest.raises(AdapterFailed) as broke:
                await calling
            assert "secret" not in broke.value.message
    async with Giving(...) as adapter:
        with pytest.raises(DeadlineExceeded):
            await adapter.model_config("m")
