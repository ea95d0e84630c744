"""Tools: what the model calls, what it is told of the results, what is remembered."""

from __future__ import annotations

import pytest

from adapter_api import InvalidRequest, Tool, Unsupported
from adapter_clients import ChatClient
from tests.adapter_clients.chat.engines import calling, mock

pytestmark = pytest.mark.anyio

WEATHER = Tool(name="weather", description="of a city", parameters={"type": "object"})
OPENAIS = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object"}, "strict": True},
}
CALLS = (("c1", "weather", '{"city": "Ulm"}'), ("c2", "weather", '{"city": "Köln"}'))


@pytest.mark.spec("ORCH-3070-008")
@pytest.mark.parametrize("form", [WEATHER, WEATHER.model_dump(), OPENAIS], ids=["a tool", "a mapping", "OpenAI's form"])
async def test_tools_are_passed_through_in_every_form(form: object) -> None:
    adapter = calling(*CALLS)
    async with ChatClient(adapter) as client:
        answer = await client.chat("How is the weather?", tools=[form], tool_choice="weather")  # type: ignore[list-item]

    [sent] = adapter.submitted[0].tools
    assert (sent.name, sent.description, sent.parameters) == (WEATHER.name, WEATHER.description, WEATHER.parameters)
    assert sent.strict is (True if form is OPENAIS else None)
    assert adapter.submitted[0].tool_choice == "weather"
    assert answer.finish_reason == "tool_calls"
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == list(CALLS)


@pytest.mark.spec("ORCH-3070-008")
async def test_calls_and_results_are_one_turn_of_the_history() -> None:
    adapter = calling(*CALLS, reply="rain and sun")
    async with ChatClient(adapter, max_history=1) as client:
        await client.chat("How is the weather?", tools=[WEATHER])
        answer = await client.chat(tool_results={"c2": "sun", "c1": "rain"})
        asked = adapter.submitted[1]
        history = client.history()
        await client.chat("Thank you", tools=[])

        assert [message.text for message in client.history()] == ["Thank you", "rain and sun"]
    assert answer.text == "rain and sun"
    assert asked.tools == (WEATHER,), "the results go with the tools of the question"
    assert [(message.role, message.text, message.tool_call_id) for message in history] == [
        ("user", "How is the weather?", None),
        ("assistant", "", None),
        ("tool", "rain", "c1"),
        ("tool", "sun", "c2"),
        ("assistant", "rain and sun", None),
    ]
    assert history[1].content is None
    assert [call.id for call in history[1].tool_calls] == ["c1", "c2"]


@pytest.mark.spec("ORCH-3070-008")
@pytest.mark.parametrize(
    "results, fault",
    [
        ({"c1": "rain"}, r"results are missing: weather \('c2'\)"),
        ({"c1": "rain", "c2": "sun", "c3": "snow"}, "no tool call waits with the id 'c3'"),
    ],
)
async def test_results_that_do_not_fit_the_calls_are_refused_and_the_calls_still_wait(
    results: dict[str, str], fault: str
) -> None:
    adapter = calling(*CALLS)
    async with ChatClient(adapter) as client:
        await client.chat("How is the weather?", tools=[WEATHER])
        with pytest.raises(InvalidRequest, match=fault):
            await client.chat(tool_results=results)
        with pytest.raises(InvalidRequest, match=r"waits for the results of weather \('c1'\), weather \('c2'\)"):
            await client.chat("Something else")
        assert len(adapter.submitted) == 1

        assert (await client.chat(tool_results={"c1": "rain", "c2": "sun"})).text == "one two three"


@pytest.mark.spec("ORCH-3070-004")
async def test_calls_wait_on_when_the_answer_to_their_results_fails() -> None:
    adapter = calling(*CALLS)
    async with ChatClient(adapter) as client:
        await client.chat("How is the weather?", tools=[WEATHER])
        adapter.fail_next("overloaded")
        with pytest.raises(Exception, match="injected"):
            await client.chat(tool_results={"c1": "rain", "c2": "sun"})

        assert (await client.chat(tool_results={"c1": "rain", "c2": "sun"})).text == "one two three"
        assert len(client.history()) == 5


@pytest.mark.spec("ORCH-3070-008")
async def test_calls_that_are_cut_off_are_not_handed_out() -> None:
    async with ChatClient(calling(*CALLS)) as client:
        answer = await client.chat("How is the weather?", tools=[WEATHER], max_tokens=2)

        assert (answer.finish_reason, answer.tool_calls) == ("length", ())
        assert (await client.chat("Thank you")).text == "one two three"


@pytest.mark.spec("ORCH-3070-011")
async def test_tools_are_refused_before_anything_is_sent_where_the_model_calls_none() -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        with pytest.raises(Unsupported, match="model 'mock' takes no tools: ask without them"):
            await client.chat("How is the weather?", tools=[WEATHER])

    assert not adapter.submitted
