"""LiteLLM as a library: `openai/…`, and `hosted_vllm/…` as its documentation has for vLLM's server."""

import json
import os
import sys

import litellm

MODEL = sys.argv[1]
litellm.suppress_debug_info = True
HAVE = {"get_price": lambda item: {"lamp": 12.5}[item], "multiply": lambda a, b: a * b}


def tool(name, description, kind, *names):
    properties = {each: {"type": kind} for each in names}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": list(names)}}}  # fmt: skip


TOOLS = [tool("get_price", "Look up the price of an item in the shop.", "string", "item"),
         tool("multiply", "Multiply two numbers.", "number", "a", "b")]  # fmt: skip


def ask(text, provider="openai", **more):
    return litellm.completion(
        model=f"{provider}/{MODEL}", messages=[{"role": "user", "content": text}],
        api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"], **more,
    )  # fmt: skip


def chat():
    answers = [ask("Say hello", provider) for provider in ("openai", "hosted_vllm")]
    return {"text": answers[0].choices[0].message.content, "finish": answers[1].choices[0].finish_reason,
            "tokens": answers[0].usage.completion_tokens}  # fmt: skip


def stream():
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask("Please count to 30", stream=True)]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def tools():
    messages = [{"role": "user", "content": "Look up the price of a lamp, then multiply it by 3."}]
    called = []
    for _ in range(5):
        answer = litellm.completion(
            model=f"hosted_vllm/{MODEL}", messages=messages, tools=TOOLS, api_base=os.environ["OPENAI_BASE_URL"],
            api_key=os.environ["OPENAI_API_KEY"],
        )  # fmt: skip
        message = answer.choices[0].message
        if not message.tool_calls:
            return {"called": called, "text": message.content}
        messages.append(message)
        for call in message.tool_calls:
            given = json.loads(call.function.arguments)
            called.append([call.function.name, given])
            result = json.dumps(HAVE[call.function.name](**given))
            messages.append({"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": result})
    return {"called": called, "text": None}


def errors():
    found = {}
    for name, call in {
        "model": lambda: litellm.completion(
            model="openai/no-such-model", messages=[{"role": "user", "content": "Hi"}],
            api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]),
        "long": lambda: ask("word " * 5000),
        "long streamed": lambda: list(ask("word " * 5000, stream=True)),
    }.items():  # fmt: skip
        try:
            call()
            found[name] = "no error"
        except Exception as error:
            found[name] = [type(error).__name__, getattr(error, "status_code", None)]
    return found


def cancel():
    answer = ask("count to 5000", stream=True)
    for seen, _ in enumerate(answer):
        if seen == 5:
            break
    return {"left": True}


if __name__ == "__main__":
    for what in sys.argv[2:] or ["chat", "stream", "tools", "errors", "cancel"]:
        print(json.dumps({what: globals()[what]()}), flush=True)
