"""OpenAI's Agents SDK over chat completions, and over responses, which is its default."""

import asyncio
import json
import sys

import openai
from agents import Agent, Runner, function_tool, set_default_openai_api, set_tracing_disabled

MODEL, API = sys.argv[1:3]
set_tracing_disabled(True)
set_default_openai_api(API)
called = []


@function_tool
def get_price(item: str) -> float:
    """Look up the price of an item in the shop."""
    called.append(["get_price", {"item": item}])
    return {"lamp": 12.5}[item]


@function_tool
def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    called.append(["multiply", {"a": a, "b": b}])
    return a * b


assistant = Agent(name="Assistant", instructions="You are a helpful assistant.", model=MODEL)
shop = Agent(name="Shop", instructions="Use the tools.", model=MODEL, tools=[get_price, multiply])


async def chat():
    return {"text": (await Runner.run(assistant, "Say hello")).final_output}


async def stream():
    answer = Runner.run_streamed(assistant, "Please count to 30")
    pieces = []
    async for event in answer.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            pieces.append(event.data.delta)
    return {"text": "".join(pieces), "pieces": len(pieces)}


async def tools():
    answer = await Runner.run(shop, "Look up the price of a lamp, then multiply it by 3.")
    return {"called": called, "text": answer.final_output}


async def errors():
    found = {}
    for name, agent, text in (
        ("model", Agent(name="x", model="no-such-model"), "Hi"),
        ("long", assistant, "word " * 5000),
    ):
        try:
            await Runner.run(agent, text)
            found[name] = "no error"
        except openai.APIStatusError as error:
            found[name] = [error.status_code, error.code]
    return found


async def main():
    for what in sys.argv[3:] or ["chat", "stream", "tools", "errors"]:
        print(json.dumps({what: await globals()[what]()}), flush=True)


asyncio.run(main())
