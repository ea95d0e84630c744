"""Adapters in one event loop after the other, as test suites and short programs have them."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.live

_LOOPS = 40
# A process of its own: it runs event loops, and all loops of a process share grpc's one poller.
_PROGRAM = textwrap.dedent(
    """
    import asyncio, sys

    from adapter_api import TaskRequest
    from triton_adapter import TritonAdapter, TritonSettings


    async def main(nth):
        heard = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context["message"]))
        async with TritonAdapter(TritonSettings(url=sys.argv[1])) as adapter:
            async def ask():
                while True:
                    await adapter.health()

            async def read():
                async for _ in adapter.submit(TaskRequest(model="slow", prompt="x", max_tokens=1000)):
                    pass

            tasks = [asyncio.create_task(work()) for work in (ask, ask, ask, read, read, read)]
            # Everything from a connection that is being made to tokens that arrive is interrupted once.
            await asyncio.sleep(0.001 * nth)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return heard


    for nth in range(int(sys.argv[2])):
        for message in asyncio.run(main(nth)):
            print(message)
    """
)


def test_calls_that_were_interrupted_disturb_no_later_event_loop(triton: EmbeddedTriton) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, triton.grpc_url, str(_LOOPS)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
