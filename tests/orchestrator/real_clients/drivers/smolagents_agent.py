"""smolagents: its agent that calls tools, the answer itself being one."""

import json
import os
import sys

# It paints its steps on standard output, which is for what was found.
found = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from smolagents import OpenAIModel, ToolCallingAgent, tool  # noqa: E402

MODEL = sys.argv[1]
model = OpenAIModel(
    model_id=MODEL, api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"],
)  # fmt: skip
called = []


@tool
def get_price(item: str) -> float:
    """Look up the price of an item in the shop.

    Args:
        item: The item.
    """
    called.append(["get_price", {"item": item}])
    return {"lamp": 12.5}[item]


@tool
def multiply(a: float, b: float) -> float:
    """Multiply two numbers.

    Args:
        a: One number.
        b: Another number.
    """
    called.append(["multiply", {"a": a, "b": b}])
    return a * b


def tools():
    agent = ToolCallingAgent(tools=[get_price, multiply], model=model, verbosity_level=0, max_steps=5)
    return {"text": str(agent.run("Look up the price of a lamp, then multiply it by 3.")), "called": called}


def streamed():
    called.clear()
    agent = ToolCallingAgent(
        tools=[get_price, multiply], model=model, verbosity_level=0, max_steps=5, stream_outputs=True
    )
    return {"text": str(agent.run("Look up the price of a lamp, then multiply it by 3.")), "called": called}


if __name__ == "__main__":
    for what in sys.argv[2:] or ["tools", "streamed"]:
        print(json.dumps({what: globals()[what]()}), flush=True, file=found)
