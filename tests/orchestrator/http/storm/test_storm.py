"""Nothing is lost or left in a storm: every piece of work ends once, and what it held is given back."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from orchestrator.config import HostSettings, Loaded
from orchestrator.work.jobs import Jobs
from orchestrator.work.ledger import Ledger
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.storm.clients import Client
from tests.orchestrator.http.storm.engine import StormyEngine
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = [pytest.mark.anyio, pytest.mark.long]

PLUGINS = plugin_host(mock="tests.orchestrator.http.storm.engine:StormyEngine")
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools }}"
HEALTH = {"interval_s": 0.02, "fall": 1, "rise": 1}
CLIENTS = 200


def pool(id: str, *slots: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "adapter": "mock",
        "replicas": [{"id": f"r{at}", "slots": each} for at, each in enumerate(slots)],
        "chat_template": TEMPLATE,
        "tool_parser": "hermes",
        "reasoning_parser": "think",
        "health": HEALTH,
        "breaker": {"failures": 3, "open_s": 0.05, "max_open_s": 0.1},
        "queue": {"limit": 40, "timeout_s": 2, "not_ready_wait_s": 0.2},
        "retry": {"backoff_s": 0.005},
        **fields,
    }


POOLS = [pool("blue", 4, 4), pool("green", 3, weight=60), pool("gray", 4, shadow_of="blue", shadow_percent=30)]
OTHER = [pool("blue", 2, 4, 3), pool("green", 5, weight=30, queue={"limit": 10, "policy": "drop-lru"}), POOLS[2]]


class Books:
    """Counts how often each piece of work began and ended."""

    def __init__(self) -> None:
        self.began: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    def compare(self) -> None:
        assert self.began == self.ended
        assert set(self.began.values()) <= {1}


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    found, add, ended = Books(), Jobs.add, Ledger.ended

    def adding(self: Jobs, ticket: Any) -> None:
        found.began[ticket.work.job_id + ticket.pool.id * (ticket.pool.settings.shadow_of is not None)] += 1
        add(self, ticket)

    def ending(self: Ledger, ticket: Any, tokens: int) -> None:
        found.ended[ticket.work.job_id + ticket.pool.id * (ticket.pool.settings.shadow_of is not None)] += 1
        ended(self, ticket, tokens)

    monkeypatch.setattr(Jobs, "add", adding)
    monkeypatch.setattr(Ledger, "ended", ending)
    return found


@pytest.fixture
def stray() -> Iterator[list[str]]:
    """What asyncio would have written to stderr."""
    found: list[str] = []
    yield found
    gc.collect()
    assert found == []


async def weather(host: Host, random: Random, stop: anyio.Event) -> None:
    """Kill and revive engines, drain and take back, go over to other settings and back, until told to stop."""
    while not stop.is_set():
        await anyio.sleep(random.random() * 0.03)
        engines = sorted(StormyEngine.all, key=id)
        what = random.choice(("kill", "kill", "revive", "revive", "drain", "resume", "resume", "reload", "revert"))
        if what == "kill":
            random.choice(engines).kill()
        elif what == "revive":
            for engine in engines:
                engine.revive()
        else:
            name = random.choice(("blue", "green"))
            path, body = {
                "drain": ("drain", {"timeout_s": random.choice((0, 0.05))}),
                "resume": ("drain", {"resume": True}),
                "reload": ("reload", {}),
                "revert": ("reload", {"revert": True}),
            }[what]
            answer = await host.client.post(f"/v2/pools/{name}/{path}", json=body)
            assert answer.status_code in (200, 422), answer.text


async def storm(host: Host, random: Random, tally: Counter[str]) -> None:
    stop = anyio.Event()
    # A connection that is kept may be closed by the host in the moment in which it is used again.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=host.url, timeout=60, trust_env=False, limits=limits) as http,
        anyio.create_task_group() as outside,
    ):
        outside.start_soon(weather, host, random, stop)
        clients = [Client(http, random, tally) for _ in range(CLIENTS)]
        async with anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(client.ask)
        for client in clients[::4]:  # some come again, alone
            await client.ask()
        stop.set()
    for engine in StormyEngine.all:
        engine.revive()
    for name in ("blue", "green"):
        await host.client.post(f"/v2/pools/{name}/drain", json={"resume": True})
    for client in clients:
        for job_id in client.kept:
            await host.client.delete(f"/v2/tasks/{job_id}")


async def until(left: Callable[[], Any], what: str) -> None:
    """Wait until nothing is left."""
    try:
        await eventually(lambda: not left(), 10)
    except TimeoutError:
        raise AssertionError(f"left of {what}: {left()}; {stacks()}") from None


def stacks() -> str:
    found = io.StringIO()
    for each in asyncio.all_tasks():
        each.print_stack(limit=4, file=found)
    return found.getvalue()


async def all_is_calm(host: Host, books: Books) -> None:
    """Nothing is held any more."""
    fleet = host.orchestrator._fleet
    await until(lambda: [each.job_id for each in host.orchestrator.live_tasks], "live tasks")
    await until(lambda: [(e.running, e.inferring) for e in StormyEngine.all if e.running or e.inferring], "at engines")
    await until(lambda: host.serving.service.pending.bytes, "bytes of requests")
    books.compare()
    for found in fleet.pools.values():
        assert len(found.line) == 0
        assert [each.in_flight for each in found.replicas.values()] == [0] * len(found.replicas)
    for log in host.serving.service.kept._logs.values():
        assert log.ended_at is not None
    kept = host.serving.service.responses._kept.values()
    assert [each.id for each in kept if each.status == "in_progress"] == []


def tasks_now() -> int:
    return len([each for each in asyncio.all_tasks() if not each.done()])


@pytest.mark.spec("ORCH-3064-009", "ORCH-3055-034")
@pytest.mark.parametrize("seed", range(3))
async def test_every_piece_of_work_ends_once_and_gives_back_what_it_held(
    serve: Serve, books: Books, stray: list[str], caplog: pytest.LogCaptureFixture, tmp_path: Path, seed: int
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: stray.append(str(context)))
    await blow(serve, books, caplog, tmp_path, seed, rounds=2)


async def blow(
    serve: Serve, books: Books, caplog: pytest.LogCaptureFixture, tmp_path: Path, seed: int, *, rounds: int
) -> Counter[str]:
    random, tally = Random(seed), Counter[str]()
    turn = iter(range(1_000_000))

    def load(settings: HostSettings) -> Loaded:
        pools = (OTHER, POOLS)[next(turn) % 2]
        again = HostSettings.model_validate({**settings.model_dump(), "pools": pools})
        return Loaded(settings=again, secrets=frozenset(), path=None)

    retention = {"file": tmp_path / "journal.db"}
    server = {"limits": {"keep_s": 0.2}, "shutdown_grace_s": 1}
    caplog.set_level(logging.INFO)
    StormyEngine.all.clear()
    objects: list[int] = []
    async with serve(pools=POOLS, plugins=PLUGINS, load=load, server=server, retention=retention) as host:
        await host.client.get("/readyz")
        before = tasks_now()
        for _ in range(rounds):
            await storm(host, random, tally)
            await all_is_calm(host, books)
            await eventually(lambda: tasks_now() <= before + len(host.orchestrator._fleet.pools) * 4)
            host.serving.service.sweep()
            gc.collect()
            objects.append(len(gc.get_objects()))
    told = [(record.name, record.getMessage()) for record in caplog.records if record.levelno >= logging.ERROR]
    assert [each for each in told if each[0] != "orchestrator.changes"] == []
    return tally
