"""OpenAI's own library for Python, as its README uses it. OPENAI_BASE_URL and OPENAI_API_KEY say where."""

import asyncio
import json
import os
import sys

import openai

MODEL = sys.argv[1]
client = openai.OpenAI()
TOOLS = [
    {"type": "function", "function": {
        "name": "get_price", "description": "Look up the price of an item in the shop.",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}}},
    {"type": "function", "function": {
        "name": "multiply", "description": "Multiply two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                       "required": ["a", "b"]}}},
]  # fmt: skip
HAVE = {"get_price": lambda item: {"lamp": 12.5}[item], "multiply": lambda a, b: a * b}


def user(text):
    return [{"role": "user", "content": text}]


def chat():
    answer = client.chat.completions.create(model=MODEL, messages=user("Say hello"))
    return {"text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason,
            "tokens": answer.usage.completion_tokens}  # fmt: skip


def stream():
    chunks = list(client.chat.completions.create(model=MODEL, messages=user("Please count to 30"), stream=True))
    text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return {"text": "".join(text), "pieces": sum(map(bool, text))}


def tools():
    messages, called = user("Look up the price of a lamp, then multiply it by 3."), []
    for _ in range(5):
        answer = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return {"called": called, "text": message.content}
        for call in message.tool_calls:
            called.append([call.function.name, json.loads(call.function.arguments)])
            result = HAVE[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})
    return {"called": called, "text": None}


def forced():
    answer = client.chat.completions.create(
        model=MODEL, messages=user("A lamp and a chair, 2 and 3"), tools=TOOLS, tool_choice="required"
    )
    named = client.chat.completions.create(
        model=MODEL, messages=user("2 and 3"), tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "multiply"}},
    )  # fmt: skip
    return {
        "required": [call.function.name for call in answer.choices[0].message.tool_calls],
        "named": [[c.function.name, json.loads(c.function.arguments)] for c in named.choices[0].message.tool_calls],
        "finish": named.choices[0].finish_reason,
    }


def parsed():
    import pydantic

    class Person(pydantic.BaseModel):
        name: str
        age: int

    answer = client.chat.completions.parse(
        model=MODEL, messages=user("Extract: John Doe is 25 years old."), response_format=Person
    )
    return answer.choices[0].message.parsed.model_dump()


def errors():
    found = {}
    for name, call in {
        "model": lambda: client.chat.completions.create(model="no-such-model", messages=user("Hi")),
        "long": lambda: client.chat.completions.create(model=MODEL, messages=user("word " * 5000)),
        "long streamed": lambda: client.chat.completions.create(model=MODEL, messages=user("a " * 5000), stream=True),
        "bad": lambda: client.chat.completions.create(model=MODEL, messages=user("Hi"), temperature=-1),
        "key": lambda: openai.OpenAI(api_key="wrong").models.list(),
    }.items():
        try:
            call()
            found[name] = "no error"
        except openai.APIStatusError as error:
            found[name] = [type(error).__name__, error.status_code, error.code, error.param, bool(error.request_id)]
    return found


def cancel():
    with client.chat.completions.create(model=MODEL, messages=user("count to 5000"), stream=True) as chunks:
        for seen, _ in enumerate(chunks):
            if seen == 5:
                break
    return {"left": True}


def several():
    """Two calls in one answer, streamed by the library's own helper."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    told = {"name": "get_weather", "description": "Get the current weather in a city.", "parameters": parameters}
    weather = {"type": "function", "function": told}
    question = user("What is the weather in Paris and Rome?")
    with client.chat.completions.stream(model=MODEL, messages=question, tools=[*TOOLS, weather]) as stream:
        kinds = [event.type for event in stream]
        [choice] = stream.get_final_completion().choices
    calls = choice.message.tool_calls
    return {
        "calls": [[call.function.name, json.loads(call.function.arguments)] for call in calls],
        "ids differ": len({call.id for call in calls}) == len(calls), "finish": choice.finish_reason,
        "done": kinds.count("tool_calls.function.arguments.done"),
    }  # fmt: skip


def responded():
    """The newer API: a stream, and tools whose results continue what the server has kept."""
    pieces = [
        event.delta
        for event in client.responses.create(model=MODEL, input="Please count to 30", stream=True)
        if event.type == "response.output_text.delta"
    ]
    flat = [{"type": "function", **tool["function"], "strict": False} for tool in TOOLS]
    question, kept, called = "Look up the price of a lamp, then multiply it by 3.", None, []
    for _ in range(5):
        answer = client.responses.create(model=MODEL, input=question, tools=flat, previous_response_id=kept)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            break
        called += [[call.name, json.loads(call.arguments)] for call in calls]
        kept, question = answer.id, [
            {"type": "function_call_output", "call_id": call.call_id,
             "output": json.dumps(HAVE[call.name](**json.loads(call.arguments)))}
            for call in calls
        ]  # fmt: skip
    return {"stream": "".join(pieces), "pieces": len(pieces), "called": called, "text": answer.output_text}


def embedded():
    """By default as base64, which the library unpacks."""
    answer = client.embeddings.create(model="embedder", input=["a red lamp", "a green lamp", "Paris"])
    found = [each.embedding for each in answer.data]
    near, far = (sum(a * b for a, b in zip(found[0], other, strict=True)) for other in found[1:])
    return {"vectors": len(found), "size": len(found[0]), "alike": near > far}


def impatient():
    """A whole answer that the client does not wait for."""
    hasty = client.with_options(timeout=1.0, max_retries=0)
    try:
        hasty.chat.completions.create(model=MODEL, messages=user("count to 5000"))
    except openai.APITimeoutError:
        return {"left": True}


def listed():
    names = [model.id for model in client.models.list()]
    return {"listed": MODEL in names, "one": client.models.retrieve(MODEL).id == MODEL}


def side_by_side():
    async def ask(to, number):
        question = user(f"Please count to {number}")
        chunks = await to.chat.completions.create(model=MODEL, messages=question, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    async def ask_all():
        async with openai.AsyncOpenAI() as to:
            return await asyncio.gather(*(ask(to, number) for number in range(2, 18)))

    texts = asyncio.run(ask_all())
    return {"right": sum(text.split()[-1] == str(number) for number, text in enumerate(texts, start=2))}


def legacy():
    answer = client.completions.create(model=MODEL, prompt="Please count to 5", max_tokens=50)
    return {"text": answer.choices[0].text}


def retries():
    asked = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [asked.append]})

    def tries(call):
        asked.clear()
        try:
            call()
        except openai.APIStatusError as error:
            return len(asked), error
        raise AssertionError("no error")

    counting = client.with_options(http_client=http)
    create = counting.chat.completions.create
    found = {
        "no such model": tries(lambda: create(model="no-such-model", messages=user("Hi")))[0],
        "too long": tries(lambda: create(model=MODEL, messages=user("word " * 5000)))[0],
    }
    # It would wait for as long as it is told to, and try again.
    limited = counting.with_options(api_key=os.environ["LIMITED_KEY"], max_retries=0)
    limited.models.list()
    limited.chat.completions.create(model=MODEL, messages=user("Say hello"))
    count, error = tries(lambda: limited.chat.completions.create(model=MODEL, messages=user("Say hello")))
    assert isinstance(error, openai.RateLimitError), error
    found["limited"] = {"tries": count, "retry_after": float(error.response.headers["retry-after"])}
    return found


ALL = [
    "chat", "stream", "tools", "forced", "parsed", "errors", "cancel", "several", "responded", "embedded", "impatient",
    "listed", "side_by_side", "legacy",
]  # fmt: skip


if __name__ == "__main__":
    for what in sys.argv[2:] or ALL:
        print(json.dumps({what: globals()[what]()}), flush=True)
