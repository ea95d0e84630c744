"""Values in another type's clothes."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_kit.openai.lax import as_meant, whole


@pytest.mark.spec("ORCH-3077-004")
@pytest.mark.parametrize("name, sent, meant", [
    ("temperature", "0.5", 0.5), ("temperature", " 1e-1 ", 0.1), ("top_p", "1", 1.0), ("max_tokens", "5", 5),
    ("max_tokens", 5.0, 5), ("max_tokens", "5.0", 5), ("seed", "-7", -7), ("n", 1.0, 1), ("stream", "true", True),
    ("stream", "FALSE", False), ("stream", 1, True), ("ignore_eos", "no", False), ("logprobs", 0, False),
    ("stop_token_ids", ["5", 6.0, 7], [5, 6, 7]), ("return_token_ids", "true", True), ("dimensions", "8", 8),
    ("continue_final_message", 1, True), ("add_generation_prompt", "0", False),
    ("stream_options", {"include_usage": 1, "continuous_usage_stats": "no", "x": 1},
     {"include_usage": True, "continuous_usage_stats": False, "x": 1}),
])  # fmt: skip
def test_what_has_one_meaning_is_taken_for_it(name: str, sent: Any, meant: Any) -> None:
    fields = {name: sent, "model": "m"}

    found = as_meant(fields)

    assert (found, type(found[name])) == ({name: meant, "model": "m"}, type(meant))
    assert fields == {name: sent, "model": "m"}


@pytest.mark.spec("ORCH-3077-004")
@pytest.mark.parametrize("name, sent", [
    ("temperature", "warm"), ("temperature", "0x1"), ("temperature", "nan"), ("temperature", "inf"),
    ("temperature", "1_0"), ("temperature", ""), ("temperature", "\u0661"), ("temperature", True), ("temperature", []),
    ("max_tokens", "5.5"), ("max_tokens", 5.5), ("max_tokens", "1" * 5000), ("max_tokens", 1e300), ("n", True),
    ("stream", 2), ("stream", "maybe"), ("stop_token_ids", "5"), ("stop_token_ids", [True]), ("user", "5"),
    ("stream_options", {"include_usage": "maybe"}), ("stream_options", [1]), ("return_token_ids", 2),
])  # fmt: skip
def test_the_rest_is_left_to_be_refused(name: str, sent: Any) -> None:
    found = as_meant({name: sent})

    assert (found, type(found[name])) == ({name: sent}, type(sent))


@pytest.mark.spec("ORCH-3077-004")
@pytest.mark.parametrize("sent, meant", [(True, 1), (False, None), ("3", 3), (2.0, 2), (4, 4), ("x", "x")])
def test_a_completion_counts_its_logprobs(sent: Any, meant: Any) -> None:
    assert as_meant({"logprobs": sent}, logprobs=whole)["logprobs"] == meant
