"""AutoGen: `OpenAIChatCompletionClient` with the assistant that calls tools."""

import asyncio
import json
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

MODEL = sys.argv[1]
client = OpenAIChatCompletionClient(
    model=MODEL,
    model_info={"vision": False, "function_calling": True, "json_output": True, "structured_output": True,
                "family": ModelFamily.UNKNOWN},
)  # fmt: skip
called = []


def get_price(item: str) -> float:
    """Look up the price of an item in the shop."""
    called.append(["get_price", {"item": item}])
    return {"lamp": 12.5}[item]


def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    called.append(["multiply", {"a": a, "b": b}])
    return a * b


async def chat():
    answer = await client.create([UserMessage(content="Say hello", source="user")])
    return {"text": answer.content, "finish": answer.finish_reason}


async def stream():
    found = [each async for each in client.create_stream([UserMessage(content="Please count to 30", source="user")])]
    pieces = [each for each in found if isinstance(each, str)]
    return {"text": "".join(pieces), "pieces": len(pieces)}


async def tools():
    agent = AssistantAgent(
        "shop", model_client=client, tools=[get_price, multiply], reflect_on_tool_use=True, max_tool_iterations=5
    )
    result = await agent.run(task="Look up the price of a lamp, then multiply it by 3.")
    return {"text": result.messages[-1].content, "called": called}


async def main():
    for what in sys.argv[2:] or ["chat", "stream", "tools"]:
        print(json.dumps({what: await globals()[what]()}), flush=True)
    await client.close()


asyncio.run(main())
