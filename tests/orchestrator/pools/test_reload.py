"""Reading the settings' file again: what comes into force, what waits for the next start, and what is refused."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import httpx
import pytest

from adapter_api import ConfigurationError
from orchestrator.config import HostSettings, Loaded, at_next_start, require_keys
from orchestrator.pools.fleet import ReloadReport
from orchestrator.serve import Serving, _Run, serving
from tests.orchestrator.pooling import mock_host
from worker_adapter.commands.serve import _Log

pytestmark = pytest.mark.anyio

POOL = {"adapter": "mock", "replicas": [{"id": "r0"}]}
Edit = Callable[..., None]


def settings(**more: Any) -> HostSettings:
    fields = {"pools": [POOL], "read_environment": False, **more}
    fields["server"] = {"port": 0, "shutdown_grace_s": 0.1, **more.get("server", {})}
    return HostSettings.model_validate(fields)


def key(name: str) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "admin": True}


@asynccontextmanager
async def host(**first: Any) -> AsyncIterator[tuple[Serving, Edit, list[Loaded]]]:
    """A host, a way to edit its file, and the settings that came into force after the first ones."""
    file = {"now": settings(**first)}
    in_force: list[Loaded] = []

    def edit(**fields: Any) -> None:
        file["now"] = settings(**fields)

    def load() -> Loaded:
        return Loaded(settings=file["now"], secrets=frozenset(), path=None)

    async with serving(file["now"], plugins=mock_host(), load=load, on_reloaded=in_force.append) as running:
        yield running, edit, in_force


async def reload(running: Serving, api_key: str = "anybody") -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.ready.url, trust_env=False) as client:
        return await client.post("/v2/pools/default/reload", headers={"X-API-Key": api_key})


async def test_keys_come_into_force_and_those_that_are_gone_open_nothing() -> None:
    async with host(server={"api_keys": [key("old")]}) as (running, edit, in_force):
        edit(server={"api_keys": [key("new")]})

        assert (await reload(running, "old")).status_code == 200
        assert len(in_force) == 1
        assert (await reload(running, "old")).status_code == 401
        assert (await reload(running, "new")).status_code == 200


async def test_what_waits_for_the_next_start_is_named() -> None:
    async with host() as (running, edit, _):
        edit(server={"heartbeat_s": 3}, history={"turns": 2}, retained_jobs=5)

        report = (await reload(running)).json()

    assert sorted(report["at_next_start"]) == ["history.turns", "retained_jobs", "server.heartbeat_s"]


@pytest.mark.spec("ORCH-3055-035")
async def test_a_reload_that_is_refused_leaves_keys_and_log_as_they_are() -> None:
    async with host(server={"api_keys": [key("old")]}) as (running, edit, in_force):
        ill = {**POOL, "replicas": [{"id": "r1", "options": {"state": "unreachable"}}]}
        edit(pools=[ill], server={"api_keys": [key("new")]})

        assert (await reload(running, "old")).status_code == 503
        assert in_force == []
        assert (await reload(running, "new")).status_code == 401
        edit(server={"api_keys": [key("old")]})
        assert (await reload(running, "old")).status_code == 200


def test_nothing_waits_where_only_pools_keys_or_the_log_changed() -> None:
    changed = settings(pools=[{**POOL, "weight": 1}], server={"api_keys": [key("k")]}, log={"level": "debug"})

    assert at_next_start(settings(), changed) == ()


def test_keys_cannot_go_while_the_host_listens_beyond_its_machine() -> None:
    beyond = settings(server={"host": "0.0.0.0", "api_keys": [key("k")]}).server
    within = settings(server={"host": "127.0.0.1"}).server

    with pytest.raises(ConfigurationError, match=r"listens on 0\.0\.0\.0 until its next start"):
        require_keys(beyond, within)
    require_keys(within, within)


def test_the_log_changes_with_the_settings_in_force_and_hides_the_secrets_of_all() -> None:
    calls: list[tuple[str, set[str]]] = []
    log = _Log(lambda wanted, secrets: calls.append((wanted.level, set(secrets))))

    def loaded(level: str, secret: str) -> Loaded:
        return Loaded(settings=settings(log={"level": level}), secrets=frozenset({secret}), path=None)

    first, tried = loaded("info", "one-secret"), loaded("debug", "other-secret")
    log.read(first)
    log.use(first)
    log.read(tried)
    assert calls[-1] == ("info", {"one-secret", "other-secret"})

    log.use(tried)
    assert calls[-1] == ("debug", {"one-secret", "other-secret"})


async def test_reloads_come_into_force_in_the_order_in_which_they_read() -> None:
    async with host() as (running, edit, in_force):

        async def read_again() -> None:
            assert running.service.reload is not None
            await running.service.reload()

        edit(log={"level": "debug"})
        async with anyio.create_task_group() as group:
            group.start_soon(read_again)
            await anyio.wait_all_tasks_blocked()
            edit(log={"level": "error"})
            group.start_soon(read_again)

    assert [loaded.settings.log.level for loaded in in_force][-1] == "error"


@pytest.mark.parametrize("reload", ["hangs", "breaks"])
async def test_a_signal_to_stop_does_not_wait_for_a_reload_nor_fall_with_it(
    reload: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with host() as (running, _, _):

        async def reloading() -> ReloadReport:
            if reload == "breaks":
                raise RuntimeError("a bug")
            await anyio.sleep_forever()
            raise AssertionError("slept for ever")

        running.service.reload = reloading
        run = _Run(lambda: pytest.fail("not asked to"), None, nullcontext(), lambda ready: None, lambda loaded: None)
        run._host = running
        send, receive = anyio.create_memory_object_stream[signal.Signals](2)
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(run.obey, receive, group)
            await send.send(signal.SIGHUP)
            await anyio.wait_all_tasks_blocked()
            await send.send(signal.SIGTERM)
            with anyio.fail_after(10):
                await run._stop.wait()
            group.cancel_scope.cancel()

    assert ("reload broke" in caplog.text) == (reload == "breaks")
