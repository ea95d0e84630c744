"""The two language models: what they compute, and the tensors they speak."""

from __future__ import annotations

import json
from typing import Any

import pytest

from triton_adapter.embedded import EmbeddedTriton

from .engine import Stream, connect, stream, tensor, tinylm

pytestmark = pytest.mark.live

ALL_EXTRAS = {
    name: True
    for name in (
        "return_finish_reason",
        "return_cumulative_logprob",
        "return_logprobs",
        "return_num_input_tokens",
        "return_num_output_tokens",
    )
}


def tinytrt(triton: EmbeddedTriton, prompt: str, max_tokens: int, *extra: Any) -> Stream:
    inputs = [
        tensor("text_input", prompt, batched=True),
        tensor("max_tokens", max_tokens, "int32", batched=True),
        *extra,
    ]
    return stream(triton, "tinytrt", inputs)


def test_tinylm_streams_as_many_tokens_as_asked_with_the_final_flag_on_the_last(triton: EmbeddedTriton) -> None:
    answer = tinylm(triton, "A list is", flags=ALL_EXTRAS, max_tokens=20, ignore_eos=True, seed=1)

    assert len(answer.outputs) == 20
    assert answer.final_with_data
    assert answer.column("finish_reason") == [b"None"] * 19 + [b"length"]
    assert answer.column("num_output_tokens") == [1] * 20
    assert set(answer.column("num_input_tokens")) == {3}


def test_tinylm_has_the_shapes_of_the_vllm_backend(triton: EmbeddedTriton) -> None:
    answer = tinylm(triton, "A list is", flags=ALL_EXTRAS, max_tokens=2, n=3, ignore_eos=True)

    shapes = {name: array.shape for name, array in answer.outputs[0].items()}
    assert shapes == {
        "text_output": (3,),
        "finish_reason": (3,),
        "cumulative_logprob": (3,),
        "logprobs": (3,),
        "num_input_tokens": (),
        "num_output_tokens": (3,),
    }


def test_tinylm_sends_no_extra_that_was_not_asked_for(triton: EmbeddedTriton) -> None:
    answer = tinylm(triton, "A list is", max_tokens=2)

    assert set(answer.outputs[0]) == {"text_output"}


def test_tinylm_repeats_its_bytes_for_the_same_seed_only(triton: EmbeddedTriton) -> None:
    first, again, other = (
        tinylm(triton, "A list is", max_tokens=40, ignore_eos=True, seed=seed).text for seed in (7, 7, 8)
    )

    assert first == again
    assert first != other


def test_tinylm_is_random_without_a_seed(triton: EmbeddedTriton) -> None:
    texts = {tinylm(triton, "A list is", max_tokens=30, ignore_eos=True).text for _ in range(6)}

    assert len(texts) > 2  # a text may come twice by chance


def test_tinylm_at_temperature_zero_needs_no_seed(triton: EmbeddedTriton) -> None:
    texts = {tinylm(triton, "A list is", max_tokens=30, temperature=0).text for _ in range(2)}

    assert len(texts) == 1


@pytest.mark.parametrize(
    "sampling", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 0}], ids=lambda case: next(iter(case))
)
def test_tinylm_takes_the_likeliest_token_when_sampling_leaves_one(
    triton: EmbeddedTriton, sampling: dict[str, Any]
) -> None:
    answer = tinylm(triton, "A list is", flags=ALL_EXTRAS, max_tokens=10, logprobs=1, **sampling)

    ranks = [next(iter(step.values()))["rank"] for text in answer.column("logprobs") for step in json.loads(text)]
    assert ranks == [1] * len(ranks)


def test_tinylm_cuts_a_stop_string_and_what_follows(triton: EmbeddedTriton) -> None:
    whole = tinylm(triton, "A list is", max_tokens=60, seed=3, ignore_eos=True).text
    stop = whole[40:50]

    stopped = tinylm(triton, "A list is", flags=ALL_EXTRAS, max_tokens=60, seed=3, ignore_eos=True, stop=[stop])

    assert stopped.text == whole[: whole.index(stop)]
    assert stopped.column("finish_reason")[-1] == b"stop"


def test_tinylm_ends_by_itself_at_the_end_of_a_section(triton: EmbeddedTriton) -> None:
    answer = tinylm(triton, "A list is", flags=ALL_EXTRAS, max_tokens=2000, seed=1)

    assert answer.column("finish_reason")[-1] == b"stop"
    assert len(answer.outputs) < 2000


def test_tinylm_makes_sixteen_tokens_by_default_and_echoes_the_prompt_unless_streaming(triton: EmbeddedTriton) -> None:
    flags = {"stream": False} | ALL_EXTRAS

    answer = tinylm(triton, "A list is", flags=flags, seed=1, ignore_eos=True)

    assert len(answer.outputs) == 1
    assert answer.text.startswith("A list is")
    assert answer.column("num_output_tokens") == [16]


def test_tinylm_leaves_the_prompt_out_when_told(triton: EmbeddedTriton) -> None:
    answer = tinylm(triton, "A list is", flags={"stream": False, "exclude_input_in_output": True}, seed=1)

    assert not answer.text.startswith("A list is")


def test_tinylm_takes_request_parameters_when_there_is_no_tensor(triton: EmbeddedTriton) -> None:
    inputs = [tensor("text_input", "A list is"), tensor("stream", True)]

    answer = stream(triton, "tinylm", inputs, {"max_tokens": 3, "seed": 4, "ignore_eos": True})

    assert len(answer.outputs) == 3


@pytest.mark.parametrize("sampling", [{"max_new_tokens": 5}, {"temperature": -1}, {"max_tokens": 0}], ids=str)
def test_tinylm_refuses_bad_sampling_as_opaquely_as_the_vllm_backend(
    triton: EmbeddedTriton, sampling: dict[str, Any]
) -> None:
    answer = tinylm(triton, "A list is", **sampling)

    assert answer.errors == ["Error generating stream: 'NoneType' object has no attribute 'lora_name'"]


def test_tinylm_names_its_context_length_when_the_prompt_is_too_long(triton: EmbeddedTriton) -> None:
    answer = tinylm(triton, "word " * 3000, max_tokens=5)

    assert "maximum context length is 2048 tokens" in answer.errors[0]


def test_tinylm_refuses_an_empty_prompt(triton: EmbeddedTriton) -> None:
    assert "prompt cannot be empty" in tinylm(triton, "").errors[0]


def test_tinytrt_ends_with_a_message_that_carries_only_the_flag(triton: EmbeddedTriton) -> None:
    answer = tinytrt(triton, "A list is", 10, tensor("stream", True, batched=True))

    assert len(answer.outputs) == 10
    assert not answer.final_with_data


def test_tinytrt_needs_max_tokens(triton: EmbeddedTriton) -> None:
    answer = stream(triton, "tinytrt", [tensor("text_input", "A list is", batched=True)])

    assert "expected" in answer.errors[0]
    assert "max_tokens" in answer.errors[0]


def test_tinytrt_is_the_same_model_as_tinylm(triton: EmbeddedTriton) -> None:
    expected = tinylm(triton, "A list is", max_tokens=30, seed=5, ignore_eos=False).text

    extra = [tensor("stream", True, batched=True), tensor("seed", 5, "uint64", batched=True)]
    answer = tinytrt(triton, "A list is", 30, *extra, tensor("temperature", 1.0, "float32", batched=True))

    assert answer.text == expected


def test_tinytrt_keeps_the_stop_word_in_the_text(triton: EmbeddedTriton) -> None:
    whole = tinytrt(triton, "A list is", 30, tensor("stream", True, batched=True)).text
    stop = whole.split()[8]

    answer = tinytrt(
        triton, "A list is", 30, tensor("stream", True, batched=True), tensor("stop_words", stop, batched=True)
    )

    assert answer.text == whole[: whole.index(stop) + len(stop)]


def test_tinytrt_reports_counts_and_log_probabilities_when_asked(triton: EmbeddedTriton) -> None:
    names = ("return_log_probs", "return_num_input_tokens", "return_num_output_tokens")

    answer = tinytrt(triton, "A list is", 10, *(tensor(name, True, batched=True) for name in names))

    (outputs,) = answer.outputs
    assert outputs["num_input_tokens"].tolist() == [[3]]
    assert outputs["num_output_tokens"].tolist() == [[10]]
    assert outputs["output_log_probs"].shape == (1, 1, 10)
    assert outputs["cum_log_probs"][0, 0] == pytest.approx(outputs["output_log_probs"].sum(), rel=1e-4)
    assert answer.text.startswith("A list is")


def test_requests_to_a_language_model_stream_side_by_side(triton: EmbeddedTriton) -> None:
    import queue

    messages: queue.Queue[str] = queue.Queue()
    with connect(triton) as connection:

        def received(result: Any, error: Any) -> None:
            response = result.get_response()
            messages.put("end " if response.parameters["triton_final_response"].bool_param else response.id)

        connection.start_stream(received)
        sampling = tensor("sampling_parameters", json.dumps({"max_tokens": 30, "ignore_eos": True}))
        for request_id in ("a", "b"):
            inputs = [tensor("text_input", "A list is"), tensor("stream", True), sampling]
            connection.async_stream_infer("tinylm", inputs, request_id=request_id)
        order = [messages.get(timeout=20) for _ in range(60)]

    assert order.index("b") < 29, "the second request waited for the first to end"
