"""A burst of tokens decodes to what its messages decode to one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import End, Metrics, Token
from tests.triton_adapter.dialects.models import reply, schema, task, tensor
from triton_adapter.dialects import choose_dialect
from triton_adapter.schema import Run
from triton_adapter.settings import ModelOverride
from triton_adapter.tasks.plan import make_plan

no_spec = "the short way of ORCH-3059's texts, which are tested with an engine"

PIECES = st.lists(
    st.one_of(st.text(max_size=6).map(str.encode), st.sampled_from([b"", b"\xc3", b"\xa9", b"\xff", b"st", b"op"]))
)
TASKS = st.sampled_from(
    [{}, {"stop": ("stop",)}, {"logprobs": 0}, {"parameters": {"triton.return_perf_metrics": True}}]
)


def decoded(name: str, fields: dict[str, Any], pieces: list[bytes], *, at_once: int) -> tuple[list[Any], End, bool]:
    model = schema(name)
    decoder = choose_dialect(model).dialect.decoder(task(**fields), model)
    events: list[Token | Metrics] = []
    outputs: dict[str, Any] = {"num_output_tokens": tensor(2, "UINT32")}
    decoder.feed(reply(text_output=b"first", **outputs), events)
    while pieces and not decoder.done:
        taken, pieces = pieces[:at_once], pieces[at_once:]
        if at_once == 1:
            decoder.feed(reply(text_output=taken[0], **outputs), events)
        else:
            decoder.feed_run(Run(taken), events)
    held, end = decoder.finish()
    return [*events, *held], end, decoder.done


@given(st.sampled_from(["vllm", "trtllm_bls"]), TASKS, PIECES, st.integers(2, 9))
def test_a_burst_says_what_its_messages_say_one_by_one(
    name: str, fields: dict[str, Any], pieces: list[bytes], at_once: int
) -> None:
    try:
        alone = decoded(name, fields, pieces, at_once=1)
    except Exception as exc:
        with pytest.raises(type(exc)):
            decoded(name, fields, pieces, at_once=at_once)
        return

    assert decoded(name, fields, pieces, at_once=at_once) == alone


def test_a_decoder_for_another_task_has_nothing_of_the_one_before() -> None:
    model = schema("vllm")
    decoder = choose_dialect(model).dialect.decoder(task(stop=("stop",)), model)
    decoder.feed(reply(text_output=b"what was said st"), [])
    again = decoder.again()
    events: list[Any] = []

    assert again is not None
    again.feed(reply(text_output=b"op it", final=True), events)

    assert [event.text for event in events] == ["op it"]
    assert not again.done


def test_a_task_with_a_part_of_its_own_needs_a_decoder_of_its_own() -> None:
    plan, _ = make_plan(task(logprobs=0), schema("vllm"), ModelOverride())

    assert plan.decoder.again() is None
