"""One model, asked for by its name, on any adapter: also on one whose author wrote nothing for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from adapter_api import (
    AdapterClosed,
    DeadlineExceeded,
    EngineProps,
    HealthReport,
    HealthState,
    ModelNotFound,
    ModelProps,
    ProtocolViolation,
    TaskRequest,
    TokenEvent,
    Unsupported,
    WorkerAdapter,
)

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3057-036")]


class Telling(WorkerAdapter):
    """Tells these properties, or takes for ever."""

    engine = "telling"
    control_timeout_s = 0.05

    def __init__(self, *models: str, hangs: bool = False, **props: Any) -> None:
        self.told = EngineProps(engine="telling", models=tuple(ModelProps(name=name) for name in models), **props)
        self.hangs = hangs

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        raise Unsupported("it takes no tasks")
        yield

    async def _health(self, *, canary: bool) -> HealthReport:
        return HealthReport(state=HealthState.READY, live=True, ready=True)

    async def _props(self) -> EngineProps:
        if self.hangs:
            await anyio.sleep_forever()
        return self.told


async def test_a_model_is_looked_up_among_all_where_the_author_says_no_better() -> None:
    async with Telling("a", "b") as adapter:
        assert await adapter.model_props("b") == ModelProps(name="b")


async def test_a_model_that_is_not_there_is_named_with_those_that_are() -> None:
    async with Telling("a", "b") as adapter:
        with pytest.raises(ModelNotFound, match=r"'c'.*a, b"):
            await adapter.model_props("c")


@pytest.mark.parametrize("models, listed", [((), True), (("a",), False)])
async def test_nothing_is_known_of_a_model_where_the_engine_cannot_list(models: tuple[str, ...], listed: bool) -> None:
    async with Telling(*models, models_listed=listed) as adapter:
        assert await adapter.model_props("c") == ModelProps(name="c")


async def test_an_engine_that_does_not_answer_is_waited_for_no_longer_than_it_may_take() -> None:
    async with Telling(hangs=True) as adapter:
        with anyio.fail_after(5), pytest.raises(DeadlineExceeded, match="'c'"):
            await adapter.model_props("c")


async def test_a_closed_adapter_is_asked_nothing() -> None:
    with pytest.raises(AdapterClosed):
        await Telling().model_props("a")


async def test_an_author_that_answers_something_else_is_told() -> None:
    class Wrong(Telling):
        async def _model_props(self, model: str) -> Any:
            return {"name": model}

    async with Wrong() as adapter:
        with pytest.raises(ProtocolViolation, match="ModelProps"):
            await adapter.model_props("a")
