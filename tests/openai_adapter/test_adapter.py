"""The adapter as its users meet it: URL, key, settings, cancel, the suite."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from adapter_api import API_VERSION, ConfigurationError, Started, TaskRequest, Token, load_plugins
from adapter_kit import secret_file
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.outcome import Status
from openai_adapter import OpenAIAdapter, OpenAISettings
from openai_adapter.address import parse_address
from openai_adapter.conformance import OpenAIHarness
from openai_adapter.testing import TRANSFORMERS, VLLM, FakeOpenAI
from tests.openai_adapter.running import end_of, error_of, events_of, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    "url, origin, api, root",
    [
        ("http://host:8000", "http://host:8000", "/v1", ""),
        ("http://host:8000/", "http://host:8000", "/v1", ""),
        ("https://host/v1/", "https://host", "/v1", ""),
        ("http://[::1]:8000/engine/v1", "http://[::1]:8000", "/engine/v1", "/engine"),
        ("http://host/engine", "http://host", "/engine/v1", "/engine"),
        ("https://host/api/paas/v4", "https://host", "/api/paas/v4", "/api/paas"),
    ],
)
@pytest.mark.spec("ORCH-3067-021")
def test_a_url_is_taken_with_the_api_s_path_and_without(url: str, origin: str, api: str, root: str) -> None:
    address = parse_address(url)

    assert (address.origin, address.api, address.root) == (origin, api, root)


@pytest.mark.parametrize("url", ["host:8000", "grpc://host", "http://user:secret@host", "http://", "http://host?x=1"])
@pytest.mark.spec("ORCH-3067-021")
def test_a_url_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_address(url)

    assert "secret" not in refused.value.message


@pytest.mark.spec("ORCH-3054-004")
def test_the_adapter_is_found_by_its_entry_point_and_made_from_options() -> None:
    record = load_plugins(block=()).adapter("openai")

    adapter = record.create({"url": "http://host:8000"}, environ={"OPENAI_API_KEY": "sk-1", "ORCHD_OPENAI_POOL": "gpu"})

    assert record.api_version == API_VERSION
    assert isinstance(adapter, OpenAIAdapter)
    assert (adapter.settings.url, adapter.settings.pool_id) == ("http://host:8000", "gpu")
    assert "sk-1" not in repr(adapter.settings)


@pytest.mark.spec("ORCH-3054-004")
def test_knowing_of_the_adapter_imports_nothing_heavy() -> None:
    program = (
        "import sys, openai_adapter, openai_adapter.plugin; openai_adapter.plugin.worker_adapter_register(); "
        "print([name for name in ('httptools', 'numpy', 'pydantic', 'asyncio') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.spec("ORCH-3067-020")
async def test_a_key_that_is_replaced_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "_LOOK_EVERY_S", 0.0)
    file = tmp_path / "key"
    file.write_text("sk-old-5309")
    with FakeOpenAI(api_key="sk-new-5309") as engine:
        async with OpenAIAdapter(settings_for(engine, api_key_file=file)) as adapter:
            refused, health = error_of(await events_of(adapter)), await adapter.health()
            file.write_text("sk-new-5309\n")
            end_of(await events_of(adapter))

    assert refused.code == "unauthenticated"
    assert "api_key_file" in refused.message
    assert "5309" not in refused.message + health.detail
    assert (health.live, health.ready) == (True, False)


@pytest.mark.spec("ORCH-3067-020")
async def test_what_says_who_we_are_goes_with_every_request(engine: FakeOpenAI) -> None:
    options = {"api_key": "sk-1", "organization": "org-1", "project": "p-1", "headers": {"X-Team": "blue"}}
    async with OpenAIAdapter(settings_for(engine, **options)) as adapter:
        end_of(await events_of(adapter, job_id="job-1"))

    sent = engine.requests[-1].headers
    names = ("authorization", "openai-organization", "openai-project", "x-team", "x-request-id")
    assert [sent[name] for name in names] == ["Bearer sk-1", "org-1", "p-1", "blue", "job-1"]


@pytest.mark.spec("ORCH-3067-026")
async def test_an_engine_that_was_replaced_while_nobody_looked_is_known_anew() -> None:
    with FakeOpenAI(replace(TRANSFORMERS, lists=True, version="5.23")) as engine:
        async with OpenAIAdapter(settings_for(engine, metadata_ttl_s=1e-9)) as adapter:
            refused = error_of(await events_of(adapter, logprobs=1))
            engine.family = VLLM
            events = await events_of(adapter, logprobs=1)

    assert refused.code == "unsupported"
    assert isinstance(events[0], Started)
    assert "0.32" in str(events[0].engine_version)
    end_of(events)


@pytest.mark.spec("ORCH-3067-026")
async def test_an_engine_that_died_in_the_middle_of_a_stream_is_known_anew() -> None:
    with FakeOpenAI(replace(TRANSFORMERS, lists=True, version="5.23")) as engine:
        async with OpenAIAdapter(settings_for(engine)) as adapter:
            error_of(await events_of(adapter, logprobs=1))
            engine.stream_next()
            broken = error_of(await events_of(adapter))
            engine.family = VLLM
            events = await events_of(adapter, logprobs=1)

    assert broken.code == "stream_incomplete"
    assert isinstance(events[0], Started)
    assert "0.32" in str(events[0].engine_version)
    end_of(events)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"api_key": "a", "api_key_file": "b"}, "not both"),
        ({"api_key": "a b"}, "one word of ASCII"),
        ({"headers": {"Authorization": "x"}}, "api_key"),
        ({"headers": {"Content-Length": "1"}}, "Content-Length"),
        ({"tls": {"server_name": "x"}}, "https://"),
    ],
)
@pytest.mark.spec("ORCH-3067-020")
def test_settings_that_contradict_are_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_plugins(block=()).adapter("openai").create({"url": "http://host", **options})


@pytest.mark.spec("ORCH-3067-022")
async def test_a_cancel_reaches_the_engine_and_says_how(engine: FakeOpenAI) -> None:
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        stream = adapter.submit(TaskRequest(model="tiny", prompt="on and on", max_tokens=4000))
        async for event in stream:
            if isinstance(event, Token):
                break
        running = engine.running
        receipt = await adapter.cancel(stream.job_id)
        began = time.monotonic()
        while engine.running and time.monotonic() - began < 5:  # noqa: ASYNC110 - the engine can only be asked
            await anyio.sleep(0.005)

    assert (running, engine.running) == (1, 0)
    assert (receipt.sent, receipt.acknowledged, receipt.mode) == (True, True, "on_next_chunk")


@pytest.mark.spec("ORCH-3067-001")
async def test_a_hundred_tasks_at_once_keep_apart(engine: FakeOpenAI) -> None:
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        texts: dict[int, str] = {}

        async def one(number: int) -> None:
            events = await events_of(adapter, prompt=f"word{number}", max_tokens=5)
            texts[number] = "".join(event.text for event in events if isinstance(event, Token)) or repr(events[-1])

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)

    assert texts == {number: f"word{number} " * 5 for number in range(100)}


def conformance(family: str) -> dict[str, str]:
    """Return what is not fine about a run of the suite on an engine of the family."""
    requirements = {requirement.id: requirement for requirement in load().requirements}
    outcomes = Session(OpenAIHarness(family=family)).run_all(load_suite().values(), requirements, lambda outcome: None)
    fine = (Status.PASSED, Status.NOT_APPLICABLE, Status.SKIPPED)
    return {outcome.requirement: str(outcome) for outcome in outcomes if outcome.status not in fine}


@pytest.mark.long
@pytest.mark.parametrize("family", ["vllm", "llama.cpp", "dynamo", "trtllm", "triton"])
@pytest.mark.spec("ORCH-3067-001")
def test_the_adapter_is_conformant_on_every_family(family: str) -> None:
    assert conformance(family) == {}


@pytest.mark.spec("ORCH-3067-021")
def test_settings_need_a_url_of_http() -> None:
    with pytest.raises(ConfigurationError, match="http://"):
        _ = OpenAISettings(url="grpc://host").address


@pytest.mark.spec("ORCH-3057-018")
async def test_a_task_for_a_named_model_tells_the_same_engine_version_as_the_properties() -> None:
    with FakeOpenAI(VLLM) as engine:
        settings = OpenAISettings(url=engine.url, model="tiny")
        async with OpenAIAdapter(settings) as adapter:
            events = [event async for event in adapter.submit(TaskRequest(model="tiny", prompt="x"))]
            props = await adapter.props()

    assert isinstance(events[0], Started)
    assert events[0].engine_version == props.engine_version == "vllm 0.32.0"
