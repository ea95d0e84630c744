"""LangChain: `ChatOpenAI`, and its agent."""

import json
import sys

import openai
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

MODEL = sys.argv[1]
model = ChatOpenAI(model=MODEL)
called = []


@tool
def get_price(item: str) -> float:
    """Look up the price of an item in the shop."""
    called.append(["get_price", {"item": item}])
    return {"lamp": 12.5}[item]


@tool
def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    called.append(["multiply", {"a": a, "b": b}])
    return a * b


class Person(BaseModel):
    """A person"""

    name: str
    age: int


def chat():
    answer = model.invoke("Say hello")
    return {"text": answer.content, "finish": answer.response_metadata["finish_reason"],
            "tokens": answer.usage_metadata["output_tokens"]}  # fmt: skip


def stream():
    pieces = [chunk.content for chunk in model.stream("Please count to 30") if chunk.content]
    return {"text": "".join(pieces), "pieces": len(pieces)}


def tools():
    agent = create_agent(model=model, tools=[get_price, multiply])
    question = {"role": "user", "content": "Look up the price of a lamp, then multiply it by 3."}
    state = agent.invoke({"messages": [question]})
    return {"called": called, "text": state["messages"][-1].content}


def responded():
    """The newer API, whole, streamed, and for an agent."""
    newer = ChatOpenAI(model=MODEL, use_responses_api=True)
    pieces = [chunk.text for chunk in newer.stream("Please count to 30") if chunk.text]
    called.clear()
    question = {"role": "user", "content": "Look up the price of a lamp, then multiply it by 3."}
    state = create_agent(model=newer, tools=[get_price, multiply]).invoke({"messages": [question]})
    return {"chat": newer.invoke("Say hello").text, "stream": "".join(pieces), "pieces": len(pieces),
            "called": called, "text": state["messages"][-1].text}  # fmt: skip


def embedded():
    """As texts: token ids, which it would cut them into, are another model's."""
    embeddings = OpenAIEmbeddings(model="embedder", check_embedding_ctx_length=False)
    found = embeddings.embed_documents(["a red lamp", "a green lamp", "Paris"])
    near, far = (sum(a * b for a, b in zip(found[0], other, strict=True)) for other in found[1:])
    return {"vectors": len(found), "size": len(found[0]), "alike": near > far}


def parsed():
    return model.with_structured_output(Person).invoke("Extract: John Doe is 25 years old.").model_dump()


def by_calling():
    return model.with_structured_output(Person, method="function_calling").invoke("John Doe is 25.").model_dump()


def errors():
    found = {}
    for name, call in {
        "model": lambda: ChatOpenAI(model="no-such-model").invoke("Hi"),
        "long": lambda: model.invoke("word " * 5000),
        "long streamed": lambda: list(model.stream("word " * 5000)),
    }.items():
        try:
            call()
            found[name] = "no error"
        except openai.APIStatusError as error:
            found[name] = [error.status_code, error.code]
    return found


def cancel():
    for seen, _ in enumerate(model.stream("count to 5000")):
        if seen == 5:
            break
    return {"left": True}


LAST = ("errors", "cancel")


if __name__ == "__main__":
    for what in sys.argv[2:] or [
        "chat",
        "stream",
        "tools",
        "responded",
        "embedded",
        "parsed",
        "by_calling",
        "errors",
        "cancel",
    ]:
        print(json.dumps({what: globals()[what]()}), flush=True)
