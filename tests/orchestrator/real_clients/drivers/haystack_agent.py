"""Haystack: `OpenAIChatGenerator`, and its agent."""

import json
import os
import sys
from typing import Annotated

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool

MODEL = sys.argv[1]
called = []


def generator(**more):
    return OpenAIChatGenerator(model=MODEL, api_base_url=os.environ["OPENAI_BASE_URL"], **more)


@tool
def get_price(item: Annotated[str, "the item"]) -> float:
    """Look up the price of an item in the shop."""
    called.append(["get_price", {"item": item}])
    return {"lamp": 12.5}[item]


@tool
def multiply(a: Annotated[float, "one"], b: Annotated[float, "another"]) -> float:
    """Multiply two numbers."""
    called.append(["multiply", {"a": a, "b": b}])
    return a * b


def chat():
    [answer] = generator().run([ChatMessage.from_user("Say hello")])["replies"]
    return {"text": answer.text, "finish": answer.meta["finish_reason"]}


def stream():
    pieces = []
    seen = generator(streaming_callback=lambda chunk: pieces.append(chunk.content))
    [answer] = seen.run([ChatMessage.from_user("Please count to 30")])["replies"]
    return {"text": answer.text, "pieces": sum(map(bool, pieces))}


def tools():
    agent = Agent(chat_generator=generator(), tools=[get_price, multiply])
    found = agent.run(messages=[ChatMessage.from_user("Look up the price of a lamp, then multiply it by 3.")])
    return {"text": found["messages"][-1].text, "called": called}


if __name__ == "__main__":
    for what in sys.argv[2:] or ["chat", "stream", "tools"]:
        print(json.dumps({what: globals()[what]()}), flush=True)
