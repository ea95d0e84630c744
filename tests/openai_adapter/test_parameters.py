"""Parameters of a task that are lists or objects of the engine's."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import InvalidRequest, TaskRequest
from openai_adapter.wire.request import Takes, make_body

pytestmark = pytest.mark.spec("ORCH-3073-016")


def body_with(name: str, value: Any) -> dict[str, Any]:
    task = TaskRequest(model="m", prompt="Hi", parameters={f"openai.{name}": value})
    return make_body(task, Takes(), extra_fields=frozenset({name})).fields


@pytest.mark.parametrize(
    "name, value, sent",
    [
        ("logit_bias", '{"5":1.5}', {"5": 1.5}),
        ("stop_token_ids", "[5,6]", [5, 6]),
        ("bad_words", '["x y"]', ["x y"]),
        ("ignore_eos", True, True),
        ("some_text", "[5]", "[5]"),
    ],
)
def test_they_come_as_json_and_go_as_what_they_are(name: str, value: Any, sent: Any) -> None:
    assert body_with(name, value)[name] == sent


def test_what_is_no_json_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"openai\.stop_token_ids"):
        body_with("stop_token_ids", "five")
