"""LlamaIndex: `OpenAILike`, and its agent that calls functions."""

import asyncio
import json
import os
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

MODEL = sys.argv[1]
llm = OpenAILike(
    model=MODEL, api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"], is_chat_model=True,
    is_function_calling_model=True,
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
    return {"text": (await llm.acomplete("Say hello")).text}


async def stream():
    pieces = [piece.delta async for piece in await llm.astream_complete("Please count to 30")]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


async def tools():
    agent = FunctionAgent(tools=[get_price, multiply], llm=llm)
    return {"text": str(await agent.run("Look up the price of a lamp, then multiply it by 3.")), "called": called}


async def main():
    for what in sys.argv[2:] or ["chat", "stream", "tools"]:
        print(json.dumps({what: await globals()[what]()}), flush=True)


asyncio.run(main())
