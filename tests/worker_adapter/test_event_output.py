"""The line of figures, and a cancel's receipt in words."""

from __future__ import annotations

import pytest

from adapter_api import CancelReceipt, End, Error, Reasoning, Started, Timings, Token, ToolCallDelta, Usage
from worker_adapter.event_output import TextOutput, summary
from worker_adapter.submission import describe_receipt


def test_the_figures_are_the_engines_own_where_it_counts() -> None:
    end = End(
        finish_reason="length",
        usage=Usage(tokens_out=11),
        timings=Timings(total_ms=1500, time_to_first_token_ms=20, decode_time_ms=1000),
    )

    line = summary(end, 5, model="m")

    assert line == "m · 11 tokens · 7.3 tok/s in all · first token 20 ms · 1.50 s · finish: length"


def test_the_rate_is_from_the_first_token_on_where_each_came_by_itself() -> None:
    timings = Timings(total_ms=1500, time_to_first_token_ms=500, decode_time_ms=1000)

    assert "· 10.0 tok/s ·" in summary(End(finish_reason="stop", usage=Usage(tokens_out=11), timings=timings), 11)


def test_an_answer_in_one_event_has_no_rate_of_its_own() -> None:
    timings = Timings(total_ms=2000, time_to_first_token_ms=1999, decode_time_ms=0.001)

    assert "· 16.0 tok/s in all ·" in summary(End(finish_reason="stop", usage=Usage(tokens_out=32), timings=timings), 1)


def test_figures_that_are_not_known_are_left_out() -> None:
    assert summary(End(finish_reason="cancelled"), 1) == "1 token · finish: cancelled"


@pytest.mark.parametrize(
    "receipt, words",
    [
        (CancelReceipt(found=False), ["over already"]),
        (CancelReceipt(found=True, sent=True, acknowledged=True, released=True, mode="hard"),
         ["told to stop", "no token follows", "slot is free"]),
        (CancelReceipt(found=True, acknowledged=True, released=False, mode="client_only"),
         ["cannot be told", "no token follows", "still busy"]),
        (CancelReceipt(found=True, sent=True, mode="on_next_chunk"), ["next chunk", "did not close"]),
        (CancelReceipt(found=True), ["was not told"]),
    ],
)  # fmt: skip
def test_a_receipt_in_words_says_what_the_cancel_did_and_no_more(receipt: CancelReceipt, words: list[str]) -> None:
    told = describe_receipt(receipt)

    assert all(word in told for word in words)
    assert ("slot" in told) == (receipt.released is not None)


def test_tool_calls_are_lines_of_output_and_thoughts_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    output = TextOutput()
    output.write([Started(job_id="j", engine="e", model="m"), Reasoning(0, "let me"), Reasoning(1, " see")])
    output.write([Token(0, "I ask."), ToolCallDelta(0, "a", "time", '{"zone"')])
    output.write([ToolCallDelta(0, arguments=': "UTC"}')])
    output.write([ToolCallDelta(1, "b", "date"), End(finish_reason="tool_calls")])

    told = capsys.readouterr()
    assert told.out == 'I ask.\ntime({"zone": "UTC"})\ndate()\n'
    assert told.err == "let me see\nm · 6 tokens · finish: tool_calls\n"


def test_a_text_goes_on_after_a_thought_and_after_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    output = TextOutput()
    output.write([Token(0, "one"), Reasoning(0, "hm\n"), Token(1, "two\n"), ToolCallDelta(0, "a", "f"), Token(2, "x")])
    output.write([Error(code="closed", message="closed", retryable=False)])

    told = capsys.readouterr()
    assert told.out == "one\ntwo\nf()\nx\n"
    assert told.err.startswith("hm\n")
