"""The vLLM dialect on a backend that a user has, and on a stand-in for one, which shows that these tests run.

`WORKER_ADAPTER_BACKENDS=DIR` names a folder with `vllm/model.py` in it, `WORKER_ADAPTER_MODELS=DIR` a model repository
whose models say `backend: "vllm"`. The interpreter of the embedded server must have what that backend imports; name one
with `TRITON_SERVER_PYTHON`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapter_api import Capability, End, Error, TaskRequest, Token, TokenEvent
from adapter_api.testing import collect, find_violation, text_of
from orchestrator import Orchestrator, OrchestratorSettings
from tests.triton_adapter.engine_core import lay_out
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton

no_spec = "it is about a backend of somebody else's; the requirements have tests on our own models"
pytestmark = [pytest.mark.anyio, pytest.mark.live, pytest.mark.long]

YOURS = ("WORKER_ADAPTER_BACKENDS", "WORKER_ADAPTER_MODELS")
PROMPT = "Once upon a time there was"
REFUSED = {"parameters": {"triton.min_p": 5}}
LOAD_S = 600.0
"""What a model of a user's may take to load."""


@pytest.fixture(scope="module", params=["a stand-in", "yours"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    if request.param == "yours":
        missing = [name for name in YOURS if not os.environ.get(name)]
        if missing:
            pytest.skip(f"set {' and '.join(missing)}: a folder with vllm/model.py, and a repository of its models")
        backends, models = (Path(os.environ[name]) for name in YOURS)
    else:
        backends, models = lay_out(tmp_path_factory.mktemp("stand-in"))
    with EmbeddedTriton(
        models, backend_directory=backends, startup_timeout_s=LOAD_S, model_control_mode="explicit", load_models=["*"]
    ) as server:
        yield server


@pytest.fixture
async def adapter(engine: EmbeddedTriton) -> AsyncIterator[TritonAdapter]:
    async with TritonAdapter(TritonSettings(url=engine.grpc_url)) as adapter:
        yield adapter


@pytest.fixture
async def model(adapter: TritonAdapter) -> str:
    """A model that speaks vLLM's tensors."""
    found = [model.name for model in (await adapter.props()).models if model.dialect == "vllm"]
    assert found, "no model of the repository speaks vLLM's tensors"
    return found[0]


async def run(adapter: TritonAdapter, model: str, **fields: Any) -> list[TokenEvent]:
    events = await collect(
        adapter.submit(TaskRequest.parse({"model": model, "prompt": PROMPT, "max_tokens": 40} | fields))
    )
    assert find_violation(events) is None
    return events


def end_of(events: list[TokenEvent]) -> End:
    assert isinstance(events[-1], End), events[-1]
    return events[-1]


async def declares(adapter: TritonAdapter, model: str, capability: Capability) -> bool:
    return any(one.name == model and capability in one.capabilities for one in (await adapter.props()).models)


async def test_a_text_streams_and_is_counted(adapter: TritonAdapter, model: str) -> None:
    events = await run(adapter, model, temperature=0.0)

    assert sum(isinstance(event, Token) for event in events) > 1
    assert text_of(events).strip()
    assert end_of(events).finish_reason in ("stop", "length", "unknown")
    assert end_of(events).usage.tokens_out in (None, *range(1, 41))


async def test_a_seed_repeats_a_text(adapter: TritonAdapter, model: str) -> None:
    first, again = [await run(adapter, model, seed=7, temperature=1.0) for _ in range(2)]

    assert text_of(first) == text_of(again)


async def test_a_stop_string_cuts_the_text(adapter: TritonAdapter, model: str) -> None:
    whole = text_of(await run(adapter, model, seed=7, temperature=1.0))
    stop = whole[len(whole) // 2 :][:4]
    cut = await run(adapter, model, seed=7, temperature=1.0, stop=[stop])

    assert text_of(cut) == whole[: whole.find(stop)]
    assert end_of(cut).finish_reason in ("stop", "unknown")


async def test_logprobs_come_a_token_each_with_alternatives(adapter: TritonAdapter, model: str) -> None:
    if not await declares(adapter, model, Capability.LOGPROBS):
        pytest.skip("this backend tells no logprobs: it came with Triton 24.12")
    plain = await run(adapter, model, temperature=0.0)
    scored = await run(adapter, model, temperature=0.0, logprobs=2)

    tokens = [event for event in scored if isinstance(event, Token)]
    assert text_of(scored) == text_of(plain)
    assert len(tokens) == end_of(scored).usage.tokens_out
    assert all(token.token_id is not None and (token.logprob or 0.0) <= 0.0 for token in tokens)
    assert all(1 <= len(token.alternatives) <= 2 for token in tokens)


async def test_a_schema_is_kept_where_constraints_are_declared(adapter: TritonAdapter, model: str) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = {"response_format": {"type": "json_schema", "json_schema": schema}, "max_tokens": 200, "temperature": 0.0}
    if not await declares(adapter, model, Capability.RESPONSE_FORMAT):
        assert [event.code for event in await run(adapter, model, **wanted) if isinstance(event, Error)] == [
            "unsupported"
        ]
        return
    events = await run(adapter, model, **wanted)

    if end_of(events).finish_reason == "length":
        pytest.skip("the model did not come to the end of an object within 200 tokens: take one that follows prompts")
    assert isinstance(json.loads(text_of(events))["ok"], bool)


async def test_a_cancel_reaches_the_engine(engine: EmbeddedTriton, adapter: TritonAdapter, model: str) -> None:
    """The protocol does not tell what an engine works on, but the processor's time does."""
    long = {"max_tokens": 1500, "parameters": {"triton.ignore_eos": True}}
    stream = adapter.submit(TaskRequest.parse({"model": model, "prompt": PROMPT, "job_id": "long"} | long))
    async with stream:
        while not isinstance(await anext(stream), Token):
            pass
        busy = await _work_within(engine, 1.0)
        receipt = await adapter.cancel("long")
        await anyio.sleep(0.5)  # vLLM looks at cancels once per message
        idle = await _work_within(engine, 1.0)

    assert receipt.found
    assert receipt.mode in ("hard", "on_next_chunk")
    assert idle < busy / 2, f"after the cancel the engine's processes work on: {idle} ticks, {busy} before"


async def _work_within(engine: EmbeddedTriton, seconds: float) -> int:
    """Return the processor time that the server and all below it take from now on, in ticks."""
    before = sum(_processes(engine.pid).values())
    await anyio.sleep(seconds)
    return sum(_processes(engine.pid).values()) - before


async def test_mistakes_of_clients_keep_nobody_else_out(
    engine: EmbeddedTriton, adapter: TritonAdapter, model: str
) -> None:
    replicas = [{"id": "r0", "options": {"url": engine.grpc_url}}]
    pool = {"adapter": "triton", "replicas": replicas}
    async with Orchestrator(OrchestratorSettings.parse({"pools": [pool], "read_environment": False})) as host:
        for _ in range(8):
            events = await collect(host.submit(TaskRequest.parse({"model": model, "prompt": PROMPT} | REFUSED)))
            assert isinstance(events[-1], Error)
            assert (events[-1].code, events[-1].retryable) == ("invalid_request", False), events[-1]
        events = await collect(host.submit(TaskRequest(model=model, prompt=PROMPT, max_tokens=4)))

    assert isinstance(events[-1], End), events[-1]


async def test_a_prompt_that_is_too_long_says_so(adapter: TritonAdapter, model: str) -> None:
    events = await run(adapter, model, prompt="once upon a time " * 60_000)

    assert isinstance(events[-1], Error)
    assert events[-1].code == "context_length_exceeded", events[-1]


async def test_an_engine_that_died_may_be_tried_elsewhere_and_is_trusted_again_once_loaded(
    engine: EmbeddedTriton, adapter: TritonAdapter, model: str
) -> None:
    cores = _cores(engine.pid)
    if not cores:
        pytest.skip("no process of this backend is an engine of its own that could be killed (vLLM's V1 engine is)")
    for core in cores:
        os.kill(core, signal.SIGKILL)
    with anyio.fail_after(10):
        while set(cores) & set(_cores(engine.pid)):  # noqa: ASYNC110 - another process tells of no event
            await anyio.sleep(0.05)

    error = (await run(adapter, model))[-1]

    assert isinstance(error, Error)
    assert (error.code, error.retryable) == ("engine_failed", True), error
    assert not (await adapter.health()).ready
    await adapter.models.unload(model)
    await adapter.models.load(model)
    assert isinstance((await run(adapter, model))[-1], End)


def _cores(server: int) -> list[int]:
    """Return the processes below the server's that call themselves vLLM's engine."""
    return [pid for pid in _processes(server) if "EngineCore" in _command(pid)]


def _processes(server: int) -> dict[int, int]:
    """Return the server's process and all below it, with the processor time that each has had, in ticks."""
    told: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            told[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
    ticks = {}
    for pid, fields in told.items():
        above = pid
        while above != server and above in told:
            above = int(told[above][1])
        if above == server and fields[0] != "Z":
            ticks[pid] = int(fields[11]) + int(fields[12])
    return ticks


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
