"""A real headless browser, driven over its debugging pipe (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from tests.programs import path_of


class Page:
    """One page of the browser."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._unread = b""
        self._last_id = 0
        self._session: str | None = None

    async def attach(self) -> None:
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with anyio.fail_after(30):
            while True:
                answer = json.loads(await anyio.to_thread.run_sync(self._message, abandon_on_cancel=True))
                if answer.get("id") == self._last_id:
                    assert "error" not in answer, answer
                    result: dict[str, Any] = answer["result"]
                    return result

    async def look(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        with anyio.fail_after(20):
            while not await self.look(expression):  # noqa: ASYNC110 - the browser tells of no event
                await anyio.sleep(0.05)

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"Tab": 9, "ArrowRight": 39}[key]
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def _message(self) -> bytes:
        while b"\0" not in self._unread:
            got = os.read(self._read, 65536)
            assert got, "the browser is gone"
            self._unread += got
        message, _, self._unread = self._unread.partition(b"\0")
        return message


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Page]:
    """A page of a fresh browser; for tests marked with `needs("chromium")`."""
    program = path_of("chromium")
    to_browser, our_write = os.pipe()
    our_read, from_browser = os.pipe()

    def place_pipes() -> None:
        # The browser reads file descriptor 3 and writes 4; through high numbers, lest one overwrites the other.
        os.dup2(to_browser, 100)
        os.dup2(from_browser, 101)
        os.dup2(100, 3)
        os.dup2(101, 4)

    running = subprocess.Popen(  # noqa: ASYNC220 - anyio's cannot hand over pipes by number
        [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         f"--user-data-dir={profile}", "--remote-debugging-pipe"],
        preexec_fn=place_pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_browser)
    os.close(from_browser)
    try:
        page = Page(our_read, our_write)
        await page.attach()
        yield page
    finally:
        running.terminate()
        await anyio.to_thread.run_sync(running.wait)
        os.close(our_write)
        os.close(our_read)
