"""instructor: a pydantic model out of a text, in its default mode and in the others that chat completions have."""

import json
import sys

import instructor
import openai
from pydantic import BaseModel

MODEL = sys.argv[1]
TEXT = [{"role": "user", "content": "Extract: John Doe is 25 years old."}]


class Person(BaseModel):
    name: str
    age: int


def extract():
    client = instructor.from_provider(f"openai/{MODEL}")
    return client.chat.completions.create(response_model=Person, messages=TEXT).model_dump()


def modes():
    found = {}
    for mode in ("TOOLS", "JSON", "JSON_SCHEMA", "MD_JSON"):
        client = instructor.from_openai(openai.OpenAI(), mode=instructor.Mode[mode])
        try:
            found[mode] = client.chat.completions.create(
                model=MODEL, response_model=Person, messages=TEXT, max_retries=1
            ).model_dump()
        except Exception as error:
            found[mode] = f"{type(error).__name__}: {error}"[:300]
    return found


def partial():
    client = instructor.from_openai(openai.OpenAI())
    seen = [each.model_dump() for each in client.chat.completions.create_partial(
        model=MODEL, response_model=Person, messages=TEXT)]  # fmt: skip
    return {"last": seen[-1], "pieces": len(seen)}


def many():
    client = instructor.from_openai(openai.OpenAI())
    return [each.model_dump() for each in client.chat.completions.create_iterable(
        model=MODEL, response_model=Person, messages=TEXT)]  # fmt: skip


def errors():
    client = instructor.from_openai(openai.OpenAI())
    try:
        client.chat.completions.create(model="no-such-model", response_model=Person, messages=TEXT, max_retries=1)
    except Exception as error:
        return {"model": type(error).__name__}


if __name__ == "__main__":
    for what in sys.argv[2:] or ["extract", "modes", "partial", "many", "errors"]:
        print(json.dumps({what: globals()[what]()}), flush=True)
