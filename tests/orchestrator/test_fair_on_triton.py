"""A host on Tritons of which one is dead, refuses us, or has a client whose tasks fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from adapter_api import AdapterError, End, InferRequest, TaskRequest, Tensor
from adapter_api.testing import collect
from orchestrator import Orchestrator, OrchestratorSettings
from triton_adapter.testing import FakeModel, FakeTriton

pytestmark = pytest.mark.anyio

DEAD = "Error generating stream: EngineCore encountered an issue. See stack trace (above) for the root cause."


@pytest.fixture
def tritons() -> Iterator[tuple[FakeTriton, FakeTriton]]:
    with ExitStack() as running:
        first, second = (running.enter_context(FakeTriton()) for _ in range(2))
        yield first, second


def host_of(*tritons: FakeTriton, **pool: Any) -> Orchestrator:
    replicas = [{"id": f"r{i}", "options": {"url": fake.grpc_url}} for i, fake in enumerate(tritons)]
    pools = [{"adapter": "triton", "replicas": replicas, **pool}]
    return Orchestrator(OrchestratorSettings.parse({"pools": pools, "read_environment": False}))


async def text(host: Orchestrator, prompt: str = "hello", model: str = "m") -> str:
    last = (await collect(host.submit(TaskRequest(model=model, prompt=prompt))))[-1]
    return "end" if isinstance(last, End) else last.code  # type: ignore[union-attr]


async def tensors(host: Orchestrator, prompt: str = "hello", model: str = "m") -> str:
    try:
        request = InferRequest(model=model, inputs=(Tensor.from_bytes_elements("text_input", [prompt.encode()]),))
        async for _ in host.infer_stream(request):
            pass
    except AdapterError as exc:
        return exc.code
    return "end"


def refusing(model: FakeModel, error: str) -> None:
    """Answer "evil" with an error, and everything else with a text."""
    from triton_adapter.testing.failure import TritonFailure

    def answer(request: Any) -> str:
        if request.text() == "evil":
            raise TritonFailure("INTERNAL", error, at_run_time=True)
        return "Hello there!"

    model.respond_with(answer)


@pytest.mark.spec("ORCH-3057-027", "ORCH-3057-029", "ORCH-3057-032")
@pytest.mark.parametrize("ask", [text, tensors])
@pytest.mark.parametrize(
    "error",
    ["Error generating stream: Unexpected keyword argument 'foo'", "nobody has ever said this",
     "Error generating stream: CUDA out of memory. Tried to allocate 2.00 GiB."],
)  # fmt: skip
async def test_a_client_whose_tasks_fail_harms_no_other_client_of_another_model(
    tritons: tuple[FakeTriton, FakeTriton], ask: Any, error: str
) -> None:
    for fake in tritons:
        refusing(fake.model("bad"), error)
        fake.model("m")
    async with host_of(*tritons) as host:
        told = []
        for _ in range(8):
            for _ in range(6):
                assert await ask(host, "evil", "bad") != "end"
            told.append(await ask(host))

    assert told == ["end"] * 8


@pytest.mark.spec("ORCH-3057-027", "ORCH-3057-032")
@pytest.mark.parametrize("ask", [text, tensors])
@pytest.mark.parametrize(
    "error",
    ["Error generating stream: Unexpected keyword argument 'foo'", "Error generating stream: ",
     "nobody has ever said this", "Error generating stream: CUDA out of memory. Tried to allocate 2.00 GiB."],
)  # fmt: skip
@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_client_whose_tasks_fail_harms_no_other_client_of_the_same_model(
    tritons: tuple[FakeTriton, FakeTriton], ask: Any, error: str, replicas: int
) -> None:
    for fake in tritons:
        refusing(fake.model("m"), error)
    async with host_of(*tritons[:replicas]) as host:
        told = []
        for _ in range(8):
            for _ in range(8):
                assert await ask(host, "evil") != "end"
            told.append(await ask(host))

    assert told == ["end"] * 8


@pytest.mark.spec("ORCH-3057-029")
async def test_a_model_that_is_dead_everywhere_takes_no_other_model_along(
    tritons: tuple[FakeTriton, FakeTriton],
) -> None:
    for fake in tritons:
        refusing(fake.model("bad"), DEAD)
        fake.model("m")
    async with host_of(*tritons, queue={"timeout_s": 0.05}) as host:
        for _ in range(8):
            assert await text(host, "evil", "bad") in ("engine_failed", "not_ready")
            assert await text(host) == "end"


@pytest.mark.spec("ORCH-3057-030")
async def test_a_dead_engine_beside_a_healthy_twin_costs_no_task(tritons: tuple[FakeTriton, FakeTriton]) -> None:
    dead, well = (fake.model("m") for fake in tritons)
    dead.fail(DEAD, after=0)
    async with host_of(*tritons) as host:
        told = [await text(host) for _ in range(30)]

    assert told == ["end"] * 30
    assert len(dead.requests) == 1, "it cost a second task a try"
    assert len(well.requests) == 30


@pytest.mark.spec("ORCH-3055-041")
@pytest.mark.parametrize("ask", [text, tensors])
async def test_a_replica_with_the_wrong_token_costs_no_task(tritons: tuple[FakeTriton, FakeTriton], ask: Any) -> None:
    closed, _ = tritons
    for fake in tritons:
        fake.model("m")
    closed.restrict("inference", key="key", value="value")
    async with host_of(*tritons) as host:
        told = [await ask(host) for _ in range(20)]
        (refused,) = host.pools[0].replicas[0].model_breakers

    assert told == ["end"] * 20
    assert (refused.model, refused.reason) == (
        "m",
        "its breaker is open after 1 failure, the last one permission_denied",
    )


@pytest.mark.spec("ORCH-3055-016")
async def test_a_text_that_the_engine_gives_up_on_before_its_first_token_comes_from_the_other(
    tritons: tuple[FakeTriton, FakeTriton],
) -> None:
    giving_up, well = (fake.model("m") for fake in tritons)
    giving_up.respond_with_tokens([""], finish_reason="error")
    well.respond_with_text("Hello there!")
    async with host_of(*tritons) as host:
        told = [await text(host) for _ in range(10)]

    assert told == ["end"] * 10
    assert len(giving_up.requests) == 1
