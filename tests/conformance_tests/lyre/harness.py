"""The lyre under the suite: its engine in a process of its own, and its adapter, as it is or with a bug planted."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from adapter_api import TaskRequest, WorkerAdapter
from conformance_tests import Echo, Harness, KnownText, Skipped
from tests.conformance_tests.lyre.engine import TOKEN, VERSIONS

HERE = Path(__file__).parent
_STATUS = {
    "overloaded": 429, "invalid_request": 400, "unauthenticated": 401, "permission_denied": 403, "not_ready": 503,
}  # fmt: skip


def lyre_class(*changes: tuple[str, str]) -> type[Any]:
    """Return the adapter's class, with those changes to its source."""
    source = (HERE / "adapter.py").read_text(encoding="utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{source.count(old)} times in the adapter: {old}"
        source = source.replace(old, new)
    name = f"lyre_{abs(hash(changes))}"
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader=None))  # type: ignore[arg-type]
    sys.modules[name] = module  # annotations are looked up there
    exec(compile(source, str(HERE / "adapter.py"), "exec"), module.__dict__)
    found: type[Any] = module.LyreAdapter
    return found


class LyreHarness(Harness):
    model = "lyre"
    task_seed = 5309
    settle_s = 1.0
    url = ""
    echo_versions = VERSIONS

    def __init__(self, *changes: tuple[str, str]) -> None:
        self._class = lyre_class(*changes)

    def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, str(HERE / "engine.py"), port]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> None:
        with self.process:
            self.process.kill()

    def adapter(self) -> WorkerAdapter:
        adapter: WorkerAdapter = self._class(self.url, TOKEN)
        return adapter

    def known_text(self) -> KnownText:
        text = "one  two\nthree four five six"
        return KnownText(task=self.task(prompt=f"say:{text}", max_tokens=64), text=text, tokens_in=7, tokens_out=6)

    def split_text(self) -> KnownText:
        text = "añil 日本 🙂"
        return KnownText(task=self.task(prompt=f"say:{text}", max_tokens=64), text=text)

    def empty_task(self) -> TaskRequest:
        return self.task(prompt="say:")

    def echo_task(self, **changes: Any) -> TaskRequest:
        return self.task(**({"model": "echo"} | changes))

    def echoed(self, answer: str) -> Echo:
        sent = json.loads(answer)
        told = "\n".join(f"{message['role']}: {message['text']}" for message in sent["messages"])
        return Echo(text=told, fields=sent["options"], model_version=sent["version"])

    async def in_flight(self) -> int:
        return int((await self._ask("/stats"))["running"])

    async def inferences(self) -> int:
        return int((await self._ask("/stats"))["asked"])

    async def emitted(self) -> int:
        return int((await self._ask("/stats"))["said"])

    async def stop_engine(self) -> None:
        self.stop()

    async def start_engine(self) -> None:
        self.start()

    async def pause_engine(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    async def resume_engine(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def make_unready(self) -> None:
        await self._ask("/unready", {})

    async def make_ready(self) -> None:
        await self._ask("/unready", {})

    async def drop_streams(self) -> None:
        await self._ask("/drop", {})

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        if code == "engine_failed":
            await self._ask("/trouble", {"what": "fail"})
        elif code in ("connection_lost", "stream_incomplete"):
            await self._ask("/trouble", {"what": "drop" if code == "connection_lost" else "silence"})
        elif code in _STATUS:
            headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
            await self._ask("/trouble", {"what": "status", "with": _STATUS[code], "headers": headers})
        else:
            raise Skipped(f"a lyre does not fail with {code}")

    async def fail_quoting(self) -> None:
        await self._ask("/trouble", {"what": "status", "with": 400})

    def secrets(self) -> Iterable[str]:
        return (TOKEN,)

    async def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, headers=headers) as client:
            answer = await (client.get(path) if body is None else client.post(path, json=body))
            answer.raise_for_status()
            told: dict[str, Any] = answer.json()
            return told
