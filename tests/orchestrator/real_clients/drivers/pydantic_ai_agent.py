"""Pydantic AI: `Agent` over chat completions, as its documentation has for servers that speak OpenAI's API."""

import asyncio
import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel

MODEL = sys.argv[1]
model = OpenAIChatModel(MODEL)
called = []
agent = Agent(model)


@agent.tool_plain
def get_price(item: str) -> float:
    """Look up the price of an item in the shop."""
    called.append(["get_price", {"item": item}])
    return {"lamp": 12.5}[item]


@agent.tool_plain
def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    called.append(["multiply", {"a": a, "b": b}])
    return a * b


class Person(BaseModel):
    name: str
    age: int


async def chat():
    answer = await Agent(model).run("Say hello")
    return {"text": answer.output, "tokens": answer.usage.output_tokens}


async def stream():
    async with Agent(model).run_stream("Please count to 30") as answer:
        pieces = [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]
    return {"text": "".join(pieces), "pieces": len(pieces)}


async def tools():
    answer = await agent.run("Look up the price of a lamp, then multiply it by 3.")
    return {"called": called, "text": answer.output}


async def parsed():
    answer = await Agent(model, output_type=Person).run("Extract: John Doe is 25 years old.")
    return answer.output.model_dump()


async def errors():
    found = {}
    for name, run in {
        "model": lambda: Agent(OpenAIChatModel("no-such-model")).run("Hi"),
        "long": lambda: agent.run("word " * 5000),
    }.items():
        try:
            await run()
            found[name] = "no error"
        except ModelHTTPError as error:
            found[name] = [error.status_code, error.body.get("code")]
    return found


async def cancel():
    running = asyncio.create_task(Agent(model).run("count to 5000"))
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return {"left": True}


async def main():
    for what in sys.argv[2:] or ["chat", "stream", "tools", "parsed", "errors", "cancel"]:
        print(json.dumps({what: await globals()[what]()}), flush=True)


asyncio.run(main())
