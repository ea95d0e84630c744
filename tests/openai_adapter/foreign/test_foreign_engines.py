"""Real engines with OpenAI's HTTP API: the suite, and the program, run against them.

llama.cpp's server is installed by the test. transformers and vLLM take gigabytes: their environments have to be named.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest
from foreign_servers import make

from adapter_api import End, Error, HealthState, TaskRequest, Token, TokenEvent, TokenStream
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.outcome import Status
from openai_adapter import OpenAIAdapter, OpenAISettings
from openai_adapter.conformance import OpenAIHarness

pytestmark = pytest.mark.long

SERVERS = Path(__file__).parent / "servers"
ENGINE_VARIABLE = "WORKER_ADAPTER_OPENAI_ENGINE"
"""`URL MODEL [HONOURS]` of an engine that runs already, as a vLLM or a `transformers serve`."""


@contextmanager
def llama_cpp() -> Iterator[str]:
    """Run llama.cpp's server with a model of a few kB; yields its URL."""
    with llama_cpp_process() as (_, url):
        yield url


@contextmanager
def llama_cpp_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same with its process."""
    python = make("llama-cpp")
    with subprocess.Popen(
        [str(python), str(SERVERS / "llama_cpp.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            yield process, next(line.strip() for line in lines if line.startswith("http://"))
        finally:
            process.kill()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with llama_cpp() as started:
        yield started


def not_fine(harness: OpenAIHarness) -> dict[str, str]:
    requirements = {requirement.id: requirement for requirement in load().requirements}
    outcomes = Session(harness).run_all(load_suite().values(), requirements, lambda outcome: None)
    fine = (Status.PASSED, Status.NOT_APPLICABLE, Status.SKIPPED)
    return {outcome.requirement: str(outcome) for outcome in outcomes if outcome.status not in fine}


@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-013", "ORCH-3067-014")
def test_the_adapter_is_conformant_on_llama_cpp(url: str) -> None:
    harness = OpenAIHarness(
        url=url, model="tiny", honours="seed,logprobs,response_format", long_tokens="8000", settle_s="0.5"
    )

    assert not_fine(harness) == {}


@pytest.mark.spec("ORCH-3067-014")
def test_doctor_tells_version_and_slots_of_llama_cpp(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker_adapter", "doctor", url, "--adapter", "openai"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "llama.cpp" in ended.stdout
    assert "tiny" in ended.stdout


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3076-001", "ORCH-3076-007")
async def test_llama_cpp_is_asked_in_token_ids_and_refused_what_it_would_drop(url: str) -> None:
    async with OpenAIAdapter(OpenAISettings(url=url)) as adapter:
        ends = []
        for ids in ([5], [5, 6, 7], [*range(5, 45)]):
            task = TaskRequest.parse({"model": "tiny", "prompt_token_ids": ids, "max_tokens": 4})
            *_, end = [event async for event in adapter.submit(task)]
            assert isinstance(end, End), end
            ends.append(end.usage.tokens_in)
        task = TaskRequest.parse({"model": "tiny", "prompt": "a", "return_token_ids": True})
        [refused] = [event async for event in adapter.submit(task)]

    assert None not in ends
    assert [each - ends[0] for each in ends] == [0, 2, 39]  # type: ignore[operator]
    assert isinstance(refused, Error)
    assert refused.code == "unsupported"


def tiny(**fields: Any) -> TaskRequest:
    return TaskRequest.parse({"model": "tiny", "prompt": "abc", "max_tokens": 7000, **fields})


async def begun(stream: TokenStream) -> TokenStream:
    """Return the stream when its first token has come."""
    async for event in stream:
        if isinstance(event, Token):
            break
    return stream


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3067-022")
async def test_a_cancel_frees_the_slot_of_a_real_llama_cpp(url: str) -> None:
    async with OpenAIAdapter(OpenAISettings(url=url)) as adapter:
        for _ in range(5):
            stream = await begun(adapter.submit(tiny()))
            busy = (await adapter.props()).slots_free
            receipt = await adapter.cancel(stream.job_id)
            with anyio.fail_after(5):
                while (await adapter.props()).slots_free != 4:
                    pass

            assert busy == 3
            assert (receipt.sent, receipt.acknowledged, receipt.mode) == (True, True, "on_next_chunk")


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3067-016", "ORCH-3067-026")
async def test_every_stream_of_a_llama_cpp_that_is_killed_ends_in_one_error_at_once() -> None:
    with llama_cpp_process() as (process, url):
        async with OpenAIAdapter(OpenAISettings(url=url)) as adapter:
            streams = [await begun(adapter.submit(tiny())) for _ in range(3)]
            process.kill()
            with anyio.fail_after(5):
                ends = [[event async for event in stream][-1] for stream in streams]
            report = await adapter.health()

    assert {getattr(end, "code", "") for end in ends} <= {"stream_incomplete", "connection_lost"}
    assert [stream.repairs for stream in streams] == [0, 0, 0]
    assert report.state is HealthState.UNREACHABLE


@asynccontextmanager
async def splitting(url: str) -> AsyncIterator[str]:
    """Stand before a server and pass on what it says in pieces of one to seven bytes; yields the URL."""
    there = urlsplit(url)
    assert there.hostname is not None
    assert there.port is not None
    sizes = random.Random(7)

    async def pump(source: anyio.abc.ByteStream, target: anyio.abc.ByteStream) -> None:
        async for data in source:
            at = 0
            while at < len(data):
                size = sizes.choice((1, 1, 2, 3, 7))
                await target.send(data[at : at + size])
                at += size

    async def serve(client: anyio.abc.ByteStream) -> None:
        async with client, await anyio.connect_tcp(there.hostname or "", there.port or 0) as server:
            async with anyio.create_task_group() as both:

                async def one_way(source: anyio.abc.ByteStream, target: anyio.abc.ByteStream) -> None:
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await pump(source, target)
                    both.cancel_scope.cancel()

                both.start_soon(one_way, client, server)
                both.start_soon(one_way, server, client)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-005", "ORCH-3067-008")
async def test_a_proxy_that_splits_at_odd_places_changes_nothing(url: str) -> None:
    options = {"honours": ["seed", "logprobs"]}
    asked: list[dict[str, Any]] = [{}, {"logprobs": 3}, {"stop": ["ea", "n"]}, {"prompt": None, "messages": SNOW}]
    async with splitting(url) as odd:
        async with (
            OpenAIAdapter(OpenAISettings.model_validate({"url": url, **options})) as direct,
            OpenAIAdapter(OpenAISettings.model_validate({"url": odd, **options})) as through,
        ):
            for fields in asked:
                fields = {"max_tokens": 100, "temperature": 0, **fields}
                straight = [event async for event in direct.submit(tiny(**fields))]
                split = [event async for event in through.submit(tiny(**fields))]

                assert said(split) == said(straight)
                assert isinstance(split[-1], End)


SNOW = [{"role": "user", "content": "hi ☃"}]


def said(events: list[TokenEvent]) -> list[tuple[str, int]]:
    return [(event.text, len(event.alternatives)) for event in events if isinstance(event, Token)]


@pytest.mark.spec("ORCH-3067-001")
def test_the_adapter_is_conformant_on_an_engine_of_yours() -> None:
    named = os.environ.get(ENGINE_VARIABLE, "").split()
    if len(named) < 2:
        pytest.skip(
            f"set {ENGINE_VARIABLE}='URL MODEL [HONOURS]' to an engine that runs, as a vLLM or transformers serve"
        )
    honours = named[2] if len(named) > 2 else ""

    assert not_fine(OpenAIHarness(url=named[0], model=named[1], honours=honours)) == {}
