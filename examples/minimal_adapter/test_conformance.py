"""The conformance of the parrot adapter, on an engine in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest
from parrot_adapter.adapter import ParrotAdapter, ParrotSettings

from adapter_api import TaskRequest, WorkerAdapter
from conformance_tests import Echo, Harness, KnownText, Skipped
from conformance_tests.suite import *  # noqa: F403 - the tests


@pytest.fixture(scope="session")
def conformance_harness() -> Harness:
    return ParrotHarness()


class ParrotHarness(Harness):
    plugin = "parrot"
    model = "polly"
    url = ""
    settle_s = 1.0  # what a cancel may take to show; the long task below takes more than twice that

    def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "parrot_adapter.engine", port]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> None:
        with self.process:
            self.process.kill()

    def adapter(self) -> WorkerAdapter:
        return ParrotAdapter(ParrotSettings(url=self.url))

    def long_task(self, **changes: Any) -> TaskRequest:
        return super().long_task(**({"prompt": "la " * 300} | changes))

    # Everything below is optional: each method makes more checks possible.

    def known_text(self) -> KnownText:
        task = self.task(prompt="pretty bird", max_tokens=64)
        return KnownText(task=task, text="bird pretty bird pretty bird pretty", tokens_in=2, tokens_out=6)

    def echo_task(self, **changes: Any) -> TaskRequest:
        return self.task(**({"model": "echo"} | changes))

    def echoed(self, answer: str) -> Echo:
        question = json.loads(answer)
        return Echo(text=question["say"], fields={"max_tokens": question["words"]})

    async def in_flight(self) -> int:
        return (await self.ask({"count": True}))["running"]

    async def inferences(self) -> int:
        return (await self.ask({"count": True}))["asked"]

    async def emitted(self) -> int:
        return (await self.ask({"count": True}))["said"]

    async def stop_engine(self) -> None:
        self.stop()

    async def start_engine(self) -> None:
        self.start()

    async def pause_engine(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    async def resume_engine(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        troubles = {"overloaded": "busy", "engine_failed": "tired"}
        if code not in troubles or retry_after_s is not None:
            raise Skipped(f"parrots do not fail with {code}")
        await self.ask({"trouble": troubles[code]})

    async def ask(self, question: dict[str, object]) -> dict[str, int]:
        host, _, port = self.url.removeprefix("parrot://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as connection:
            await connection.send(json.dumps(question).encode() + b"\n")
            return json.loads((await connection.receive()).splitlines()[0])
