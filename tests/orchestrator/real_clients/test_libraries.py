"""Libraries and agents: each says its own few words, and has to find what it finds at vLLM's server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.real_clients.shop import GRAMMARS, MODEL, TWO_STEPS, Shop, drive, name_of, needs_client

pytestmark = [pytest.mark.long, pytest.mark.live]

COUNTED = " ".join(map(str, range(1, 31)))
HELLO = "I have no tool for this: Say hello"
JOHN = {"name": "John Doe", "age": 25}
UNKNOWN = {"model": [404, "model_not_found"], "long": [400, "context_length_exceeded"]}
STREAM = {"text": COUNTED, "pieces": 30}
TOOLS = {"text": "The answer is 37.5.", "called": TWO_STEPS}
LEFT = {"left": True}
ITEMS = ["function_call_output"]
EMBEDDED = {"vectors": 3, "size": 64, "alike": True}


def client(name: str, driver: str, *arguments: str, **found: Any) -> Any:
    label = "-".join([name, *arguments])
    return pytest.param(name, driver, arguments, found, marks=needs_client(name), id=label)


@pytest.mark.spec(
    "ORCH-3073-006",
    "ORCH-3073-007",
    "ORCH-3073-009",
    "ORCH-3073-012",
    "ORCH-3075-001",
    "ORCH-3075-008",
    "ORCH-3075-009",
)
@pytest.mark.parametrize("name, driver, arguments, found", [
    client(
        "openai", "openai_python.py",
        chat={"text": HELLO, "finish": "stop", "tokens": 9}, stream=STREAM, tools=TOOLS, parsed=JOHN, cancel=LEFT,
        forced={"required": ["get_price"], "named": [["multiply", {"a": 2, "b": 3}]], "finish": "tool_calls"},
        errors={
            "model": ["NotFoundError", 404, "model_not_found", "model", True],
            "long": ["BadRequestError", 400, "context_length_exceeded", None, True],
            "long streamed": ["BadRequestError", 400, "context_length_exceeded", None, True],
            "bad": ["BadRequestError", 400, "invalid_request", "temperature", True],
            "key": ["AuthenticationError", 401, "api_key_unknown", None, True],
        },
        legacy={"text": "1 2 3 4 5"}, listed={"listed": True, "one": True}, side_by_side={"right": 16},
        several={
            "calls": [["get_weather", {"city": "Paris"}], ["get_weather", {"city": "Rome"}]], "ids differ": True,
            "finish": "tool_calls", "done": 2,
        },
        responded={"stream": COUNTED, "pieces": 30, **TOOLS}, embedded=EMBEDDED, impatient=LEFT,
    ),
    client(
        "openai-node", "openai_node.mjs",
        chat={"text": HELLO, "finish": "stop"}, stream=STREAM, tools=TOOLS, cancel=LEFT, embedded=EMBEDDED,
        responded={"stream": COUNTED, "pieces": 30, **TOOLS, "read": True, "items": ITEMS},
        errors={
            "model": ["NotFoundError", 404, "model_not_found", True],
            "long": ["BadRequestError", 400, "context_length_exceeded", True],
            "key": ["AuthenticationError", 401, "api_key_unknown", True],
        },
    ),
    *(
        client(
            "ai-sdk", "ai_sdk.mjs", provider,
            **{"chat": {"text": HELLO, "finish": "stop", "tokens": 9}, "stream": STREAM | {"finish": "stop"},
               "tools": TOOLS, "tools streamed": TOOLS, "cancel": LEFT, "embedded": EMBEDDED,
               "errors": {"model": ["AI_APICallError", 404, False], "long": ["AI_APICallError", 400, False]}},
            **({} if provider == "compatible" else {"object": JOHN}),
        )
        for provider in ("compatible", "openai.chat", "openai")
    ),
    client(
        "langchain", "langchain_agent.py",
        chat={"text": HELLO, "finish": "stop", "tokens": 9}, stream=STREAM, tools=TOOLS, parsed=JOHN, by_calling=JOHN,
        errors=UNKNOWN | {"long streamed": UNKNOWN["long"]}, cancel=LEFT, embedded=EMBEDDED,
        responded={"chat": HELLO, "stream": COUNTED, "pieces": 30, **TOOLS},
    ),
    client(
        "litellm", "litellm_library.py",
        chat={"text": HELLO, "finish": "stop", "tokens": 9}, stream=STREAM, tools=TOOLS, cancel=LEFT,
        errors={"model": ["NotFoundError", 404], "long": ["ContextWindowExceededError", 400],
                "long streamed": ["ContextWindowExceededError", 400]},
    ),
    client(
        "pydantic-ai", "pydantic_ai_agent.py",
        chat={"text": HELLO, "tokens": 9}, stream=STREAM, tools=TOOLS, parsed=JOHN, errors=UNKNOWN, cancel=LEFT,
    ),
    client(
        "instructor", "instructor_extract.py",
        extract=JOHN, modes={"TOOLS": JOHN, "JSON": JOHN, "JSON_SCHEMA": JOHN, "MD_JSON": JOHN}, many=[JOHN],
    ),
    *(
        client(
            "openai-agents", "openai_agents_sdk.py", api,
            chat={"text": HELLO}, stream=STREAM | {"pieces": pieces}, tools=TOOLS, errors=UNKNOWN,
        )
        # It tells the empty text of the last chunk, which vLLM's server writes too, as a piece.
        for api, pieces in (("chat_completions", 31), ("responses", 30))
    ),
    client("smolagents", "smolagents_agent.py", tools=TOOLS | {"text": "37.5"}, streamed=TOOLS | {"text": "37.5"}),
    client("haystack", "haystack_agent.py", chat={"text": HELLO, "finish": "stop"}, stream=STREAM, tools=TOOLS),
    client("llama-index", "llama_index_agent.py", chat={"text": HELLO}, stream=STREAM, tools=TOOLS),
    client("autogen", "autogen_agent.py", chat={"text": HELLO, "finish": "stop"}, stream=STREAM, tools=TOOLS),
])  # fmt: skip
def test_a_program_that_was_written_for_other_servers_finds_what_it_looks_for(
    shop: Shop, tmp_path: Path, name: str, driver: str, arguments: tuple[str, ...], found: dict[str, Any]
) -> None:
    cancelled = shop.cancelled()

    seen = drive(name, driver, MODEL, *arguments, env=shop.environment(), folder=tmp_path)

    assert {what: seen.get(what) for what in found} == found
    # The engine was told of every client that left.
    shop.wait_until_left(cancelled + len(found.keys() & {"cancel", "impatient"}))


@pytest.mark.spec("ORCH-3073-004", "ORCH-3073-006")
@needs_client("openai")
@pytest.mark.parametrize("grammar", GRAMMARS[1:])
def test_tools_are_called_in_the_grammar_that_the_template_teaches(shop: Shop, tmp_path: Path, grammar: str) -> None:
    wanted = ("stream", "tools", "forced", "parsed")

    seen = drive("openai", "openai_python.py", name_of(grammar), *wanted, env=shop.environment(), folder=tmp_path)

    assert (seen["stream"], seen["tools"], seen["parsed"]) == (STREAM, TOOLS, JOHN)
    assert seen["forced"]["named"] == [["multiply", {"a": 2, "b": 3}]]


@pytest.mark.spec("ORCH-3073-012")
@needs_client("openai")
def test_openais_library_tries_again_where_it_helps_and_only_there(shop: Shop, tmp_path: Path) -> None:
    env = shop.environment(LIMITED_KEY=shop.limited)

    seen = drive("openai", "openai_python.py", MODEL, "retries", env=env, folder=tmp_path)["retries"]

    assert seen["no such model"] == 1
    assert seen["too long"] == 1
    assert seen["limited"]["tries"] == 1
    assert 0 < seen["limited"]["retry_after"] <= 60
