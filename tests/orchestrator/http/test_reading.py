"""What is read from headers and bodies."""

from __future__ import annotations

import pytest

from orchestrator.http.reading import traceparent_of, whole_number

no_spec = "small functions behind requirements of the faces"

GOOD = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    "header, passed_on",
    [
        (GOOD, GOOD),
        (f" {GOOD} ", GOOD),
        (f"{GOOD}-\xe9", None),  # gRPC takes no such metadata, and a call with it never ends
        (GOOD.upper(), None),
        (GOOD.replace("a", "0"), None),
        (GOOD.replace("b", "0"), None),
        (f"ff{GOOD[2:]}", None),
        ("", None),
    ],
)
def test_only_a_trace_context_that_can_be_passed_on_is(header: str, passed_on: str | None) -> None:
    assert traceparent_of({"traceparent": header}) == passed_on


@pytest.mark.parametrize(
    "text, number", [("0", 0), ("17", 17), ("", None), ("-1", None), ("1.0", None), ("\xb2", None), ("9" * 19, None)]
)
def test_a_number_is_plain_digits(text: str, number: int | None) -> None:
    assert whole_number(text) == number
