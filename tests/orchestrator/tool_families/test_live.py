"""Calls in every family's grammar, from a model in a real Triton to OpenAI's client: on both faces, in every way."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import openai
import pytest

from adapter_kit.tool_calls import BY_NAME
from tests.adapter_kit.tool_calls.reading import joined, parts_of
from tests.adapter_kit.tool_calls.test_attacks import MARKS, SCRAPS
from tests.orchestrator.tool_families.asked import RAW
from tests.orchestrator.tool_families.kitchen import NAMES, THINKING, cooking
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]

HANDFUL = ("hermes", "mistral", "pythonic", "qwen3_coder", "openai", "functionary_v32")
"""One of each way to write a call, and those that have marks around their text."""
families = pytest.mark.parametrize(
    "family", [name if name in HANDFUL else pytest.param(name, marks=pytest.mark.long) for name in NAMES]
)
streamed_and_whole = pytest.mark.parametrize("streamed", [False, True])

TEXT = {"type": "string"}
PROPERTIES: dict[str, Any] = {
    "text": TEXT, "count": {"type": "integer"}, "share": {"type": "number"}, "loud": {"type": "boolean"},
    "words": {"type": "array"}, "more": {"type": "object"}, "nothing": {"type": "null"},
}  # fmt: skip
SCHEMAS: dict[str, Any] = {
    "note.it": {"type": "object", "properties": PROPERTIES},
    "send": {"type": "object", "properties": {"to": TEXT}},
    "org/now": {"type": "object", "properties": {}},
}
TOOLS: Any = [{"type": "function", "function": {"name": name, "parameters": each}} for name, each in SCHEMAS.items()]
RESPONSE_TOOLS: Any = [{"type": "function", "strict": False, **each["function"]} for each in TOOLS]
WORDS = '"Größe" L\\XL, 5 < 6 & {it\'s} 🙂 日本!'
QUESTION = f'Zuerst: ja?\nnote.it: {WORDS}\nsend: Zoë\nThen I go on.\norg/now: \nsend: "x" y\nDone, all of it.'
SAID = "Zuerst: ja?Then I go on.Done, all of it."
CALLED: list[tuple[str, Any]] = [
    (
        "note.it",
        {
            "text": WORDS, "count": -9, "share": 8.5, "loud": True, "nothing": None,
            "words": ['"Größe"', "L\\XL,", "5", "<", "6", "&", "{it's}", "🙂", "日本!"],
            "more": {
                "marks": {
                    "!": 1, '"': 2, "&": 1, "'": 1, ",": 1, "<": 1, "\\": 1, "{": 1, "}": 1, "🙂": 1
                },
                "first": ['"Größe"', {"none": None, "deep": [[]]}],
            },
        },
    ),
    ("send", {"to": "Zoë"}),
    ("org/now", {}),
    ("send", {"to": '"x" y'}),
]  # fmt: skip
"""What is to be called for the question, whoever writes it."""


class Said:
    """What a model said: its text, its calls in order, why it ended; and what goes into the conversation."""

    def __init__(self, text: str | None, calls: list[tuple[str, str, str]], reason: str | None, kept: Any) -> None:
        self.text = (text or "").replace("\n", "")
        """Without line breaks, some of which are layout."""
        self.ids = [each[0] for each in calls]
        self.raw = [(name, arguments) for _, name, arguments in calls]
        self.reason = reason
        self.kept = kept

    @property
    def calls(self) -> list[tuple[str, Any]]:
        return [(name, json.loads(arguments)) for name, arguments in self.raw]


async def chat(client: openai.AsyncOpenAI, model: str, messages: Any, *, streamed: bool, **fields: Any) -> Said:
    asked = {"model": model, "messages": messages, "tools": TOOLS, **fields}
    if not streamed:
        choice: Any = (await client.chat.completions.create(**asked)).choices[0]
    else:
        async with client.chat.completions.stream(**asked) as stream:
            try:
                choice = (await stream.get_final_completion()).choices[0]
            except openai.LengthFinishReasonError as exc:
                choice = exc.completion.choices[0]
    message = choice.message
    calls = [(each.id, each.function.name, each.function.arguments) for each in message.tool_calls or ()]
    kept = {"role": "assistant", "content": message.content}
    if message.tool_calls:
        kept["tool_calls"] = [each.model_dump(exclude_none=True) for each in message.tool_calls]
    return Said(message.content, calls, choice.finish_reason, [kept])


async def respond(client: openai.AsyncOpenAI, model: str, input: Any, *, streamed: bool, **fields: Any) -> Said:
    asked = {"model": model, "input": input, "tools": RESPONSE_TOOLS, **fields}
    if not streamed:
        response: Any = await client.responses.create(**asked)
    else:
        deltas: dict[int, str] = {}
        async with client.responses.stream(**asked) as stream:
            async for event in stream:
                if event.type in ("response.function_call_arguments.delta", "response.output_text.delta"):
                    deltas[event.output_index] = deltas.get(event.output_index, "") + event.delta
            response = await stream.get_final_response()
        for index, item in enumerate(response.output):
            whole = item.arguments if item.type == "function_call" else item.content[0].text
            assert deltas[index] == whole
    calls = [(each.call_id, each.name, each.arguments) for each in response.output if each.type == "function_call"]
    return Said(response.output_text, calls, response.status, [item.model_dump() for item in response.output])


@pytest.mark.spec("ORCH-3073-001", "ORCH-3073-006", "ORCH-3073-019")
@families
async def test_calls_of_a_real_model_are_read_whole_and_streamed_on_both_faces(
    writer: EmbeddedTriton, family: str
) -> None:
    asked = [{"role": "user", "content": QUESTION}]
    async with cooking(writer, family) as client:
        for streamed in (False, True):
            said = await chat(client, family, asked, streamed=streamed)
            results: Any = [
                {"role": "tool", "tool_call_id": id, "content": f"<{n}> ü"} for n, id in enumerate(said.ids)
            ]
            then = await chat(client, family, [*asked, *said.kept, *results], streamed=streamed)
            response = await respond(client, family, asked, streamed=streamed)
            items: Any = [
                {"type": "function_call_output", "call_id": id, "output": f"<{n}> ü"}
                for n, id in enumerate(response.ids)
            ]
            after = await respond(client, family, [*asked, *response.kept, *items], streamed=streamed)

            for first, second in ((said, then), (response, after)):
                assert first.calls == CALLED
                assert first.text == SAID
                assert len({*first.ids}) == len(CALLED)
                assert (second.text, second.raw) == ("It came to <0> ü and <1> ü and <2> ü and <3> ü.", [])
            assert (said.reason, then.reason) == ("tool_calls", "stop")
            assert (response.reason, after.reason) == ("completed", "completed")


@pytest.mark.spec("ORCH-3073-007")
@streamed_and_whole
@pytest.mark.parametrize("family", ["hermes", pytest.param("kimi_k2", marks=pytest.mark.long)])
async def test_a_real_model_calls_as_it_is_told_to(writer: EmbeddedTriton, family: str, streamed: bool) -> None:
    asked = [{"role": "user", "content": "send: Zoë\norg/now: "}]
    named: Any = {"type": "function", "function": {"name": "send"}}
    async with cooking(writer, family) as client:
        none = await chat(client, family, asked, streamed=streamed, tool_choice="none")
        auto = await chat(client, family, asked, streamed=streamed, tool_choice="auto")
        required = await chat(client, family, asked, streamed=streamed, tool_choice="required")
        one = await chat(client, family, asked, streamed=streamed, tool_choice=named)
        answered = await respond(
            client, family, asked, streamed=streamed, tool_choice={"type": "function", "name": "send"}
        )

    assert (none.text, none.raw, none.reason) == ("send: Zoëorg/now: ", [], "stop")
    assert auto.calls == required.calls == [("send", {"to": "Zoë"}), ("org/now", {})]
    assert one.calls == answered.calls == [("send", {"to": "Zoë"})]
    assert {auto.reason, required.reason, one.reason} == {"tool_calls"}
    assert auto.text == required.text == one.text == ""


BROKEN: dict[str, list[str]] = {
    "hermes": [
        '<tool_call>{"name": "send", "arguments": [1]}</tool_call> x', '<tool_call>{"name": ', "<tool_call>",
        '<tool_call>{"name": 5}</tool_call>', "5 < 6 <tool_cal", "<" * 100,
    ],
    "mistral": ["[TOOL_CALLS]", "[TOOL_CALLS] of it all", "[1, 2]", '[{"name": "nobody", "arguments": {}}]'],
    "pythonic": ["[send(to=open('x'))]", "[send(to=", "[link](http://example.org)"],
    "qwen3_coder": ["<tool_call>\n<function=send>\nno\n</function>\n</tool_call>", "<function=<parameter="],
    "openai": ["<|channel|>commentary to=functions.send <|message|>no object"],
    "functionary_v32": ["a >>> b", "send\nno object"],
}  # fmt: skip


@pytest.mark.spec("ORCH-3073-002", "ORCH-3073-006")
@pytest.mark.parametrize("family", HANDFUL)
async def test_what_is_no_call_comes_from_a_real_model_as_its_text(writer: EmbeddedTriton, family: str) -> None:
    async with cooking(writer, family) as client:
        for text in BROKEN[family]:
            for streamed in (False, True):
                asked = [{"role": "user", "content": RAW + text}]
                for said in (
                    await chat(client, family, asked, streamed=streamed),
                    await respond(client, family, asked, streamed=streamed),
                ):
                    assert (said.text, said.raw) == (text.replace("\n", ""), [])


@pytest.mark.spec("ORCH-3073-001", "ORCH-3073-002", "ORCH-3073-006")
@pytest.mark.long
@pytest.mark.parametrize("family", NAMES)
async def test_whatever_a_real_model_writes_arrives_as_a_parser_reads_it(writer: EmbeddedTriton, family: str) -> None:
    random = Random(family)
    grammar = BY_NAME[family]
    scraps = [*MARKS, *SCRAPS, *(grammar.begin * 20), *(grammar.end * 10), 'send{"to": "a"}', "send(to='a')",
              '{"name": "send", "arguments": {"to": "a"}}' * 3]  # fmt: skip
    async with cooking(writer, family) as client:
        for streamed in (False, True) * 6:
            text = "a" + "".join(random.choices(scraps, k=random.randint(1, 9)))
            parts = joined(parts_of(family, [text], SCHEMAS))
            said = await chat(client, family, [{"role": "user", "content": RAW + text}], streamed=streamed)

            assert said.raw == [part for part in parts if not isinstance(part, str)], text
            assert said.text == "".join(part for part in parts if isinstance(part, str)).replace("\n", ""), text


@pytest.mark.spec("ORCH-3073-002", "ORCH-3073-003", "ORCH-3073-006")
@streamed_and_whole
async def test_an_answer_that_is_cut_anywhere_keeps_what_came(writer: EmbeddedTriton, streamed: bool) -> None:
    asked = [{"role": "user", "content": f"First.\nsend: {'é' * 20}"}]
    async with cooking(writer, "hermes") as client:
        found = [await chat(client, "hermes", asked, streamed=streamed, max_tokens=limit) for limit in range(1, 40, 3)]

    whole = next(said for said in found if said.reason == "tool_calls")
    assert whole.calls == [("send", {"to": "é" * 20})]
    lengths = []
    for said in found:
        arguments = "".join(arguments for _, arguments in said.raw)
        assert said.raw == whole.raw or said.reason == "length"
        assert whole.raw[0][1].startswith(arguments)
        assert said.text.startswith("First.") or "First.".startswith(said.text)
        lengths.append(len(said.text) if not said.raw else 1000 + len(arguments))
    assert lengths == sorted(lengths), "the more tokens, the more is told"


@pytest.mark.spec("ORCH-3073-008")
@streamed_and_whole
async def test_a_call_in_thoughts_is_none_and_one_behind_them_is(writer: EmbeddedTriton, streamed: bool) -> None:
    call = '<tool_call>{"name": "send", "arguments": {"to": "a"}}</tool_call>'
    text = f"<think>I would write {call[1:]} here.</think>So.{call}"
    async with cooking(writer) as client:
        said = await chat(client, THINKING, [{"role": "user", "content": RAW + text}], streamed=streamed)

    assert said.calls == [("send", {"to": "a"})]
    assert said.text == "So."
