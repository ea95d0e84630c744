"""The engine: parrots, which say the words they heard backwards, three times over, one every few milliseconds.
The parrot called echo says what it was asked, as JSON, whole.

`python -m parrot_adapter.engine [PORT]` prints where it listens and serves until it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

PARROTS = ["polly", "echo"]
counts = {"running": 0, "asked": 0, "said": 0}
troubles: list[str] = []


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        question = json.loads(await reader.readline())
        await answer(question, writer, gone=asyncio.create_task(until_gone(reader)))
        tell(writer, last=True)
    except (OSError, ValueError):
        pass  # whoever asked has gone, or talks nonsense
    finally:
        writer.close()


async def until_gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        await reader.read()


async def answer(question: dict[str, Any], writer: asyncio.StreamWriter, gone: asyncio.Task[None]) -> None:
    if "who" in question:
        tell(writer, parrots=PARROTS)
    elif "count" in question:
        tell(writer, **counts)
    elif "trouble" in question:
        troubles.append(question["trouble"])
    elif question.get("parrot") not in PARROTS:
        tell(writer, error="unknown parrot")
    else:
        counts["asked"] += 1
        counts["running"] += 1
        try:
            if question["parrot"] == "echo":
                repeat(json.dumps(question), writer)
            else:
                await say(question["say"].split() or ["squawk"], question["words"], writer, gone)
        finally:
            counts["running"] -= 1


async def say(heard: list[str], most: int, writer: asyncio.StreamWriter, gone: asyncio.Task[None]) -> None:
    trouble = troubles.pop() if troubles else None
    if trouble == "busy":
        return tell(writer, error=trouble)
    tell(writer, began=True)
    words = 3 * heard[::-1]
    for index, word in enumerate(words[:most]):
        await asyncio.wait([gone], timeout=0.005)
        if gone.done():
            return
        if trouble and index == 2:
            return tell(writer, error=trouble)
        tell(writer, index=index, word=word if index == 0 else f" {word}")
        counts["said"] += 1
        await writer.drain()
    reason = "stop" if len(words) <= most else "length"
    tell(writer, done=reason, heard=len(heard), said=min(most, len(words)))


def repeat(text: str, writer: asyncio.StreamWriter) -> None:
    tell(writer, began=True)
    tell(writer, index=0, word=text)
    tell(writer, done="stop", heard=1, said=1)


def tell(writer: asyncio.StreamWriter, **line: Any) -> None:
    writer.write(json.dumps(line).encode() + b"\n")


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    sys.stdout.write(f"parrot://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
