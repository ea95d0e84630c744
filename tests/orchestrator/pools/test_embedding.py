"""How a model takes texts and gives their embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapter_api import InferRequest, ModelProps, ProtocolViolation, Tensor, TensorSpec, Unsupported
from orchestrator.config.settings import EmbeddingSettings
from orchestrator.pools.embedding import EmbeddingPlan, embeddings_fault, plan_of, vectors_in

NOTHING = EmbeddingSettings()
TEXT, VECTOR = TensorSpec("text", "BYTES", (-1, 1)), TensorSpec("vector", "FP32", (-1, 8))


def props(*tensors: TensorSpec, most: int | None = 4) -> ModelProps:
    inputs = tuple(each for each in tensors if not each.name.startswith("vector"))
    outputs = tuple(each for each in tensors if each not in inputs)
    return ModelProps(name="m", inputs=inputs, outputs=outputs, max_batch_size=most)


@pytest.mark.spec("ORCH-3075-002", "ORCH-3075-003")
@pytest.mark.parametrize(
    "text, vector, most, shape, at_once",
    [
        ((-1, 1), (-1, 8), 4, (3, 1), 3),
        ((-1, -1), (-1, 1, 8), 2, (3, 1), 2),
        ((-1,), (-1, 8), 4, (3,), 3),
        ((-1,), (-1, -1), None, (3,), 9),
        ((1,), (8,), None, (1,), 1),
        ((-1,), (8,), None, (1,), 1),
        ((1, 1), (1, 8), None, (1, 1), 1),
    ],
)
def test_texts_take_the_shape_that_the_model_declares(
    text: Any, vector: Any, most: int | None, shape: tuple[int, ...], at_once: int
) -> None:
    plan = plan_of(
        props(TensorSpec("text", "BYTES", text), TensorSpec("vector", "FP32", vector), most=most), NOTHING, "m"
    )
    texts = ["a", "é", "c"] if plan.batched else ["é"]

    [tensor] = plan.request(InferRequest(model="m", inputs=()), texts).inputs

    assert (tensor.name, tensor.shape) == ("text", shape)
    assert [each.decode() for each in tensor.elements()] == texts
    assert plan.rows_at_once(9) == (most or 9 if plan.batched else 1)
    assert plan.rows_at_once(3) == min(at_once, 3)


@pytest.mark.spec("ORCH-3075-002")
def test_names_in_the_settings_choose_among_several() -> None:
    model = props(TEXT, TensorSpec("other", "BYTES", (-1, 1), None), VECTOR, TensorSpec("vector2", "FP16", (-1, 4)))
    named = EmbeddingSettings(input="other", output="vector2")

    with pytest.raises(
        Unsupported, match=r"several inputs may be meant: name one of text, other as `embeddings.input`"
    ):
        plan_of(model, NOTHING, "m")
    with pytest.raises(Unsupported, match="several outputs may be meant"):
        plan_of(model, EmbeddingSettings(input="text"), "m")
    assert plan_of(model, EmbeddingSettings(input="text", output="vector"), "m").size == 8
    with pytest.raises(Unsupported, match="needs more than texts for its embeddings: inputs text"):
        plan_of(model, named, "m")


@pytest.mark.spec("ORCH-3075-002")
def test_optional_inputs_are_left_out() -> None:
    model = props(TEXT, TensorSpec("prompt", "BYTES", (-1, 1), True), TensorSpec("k", "INT32", (-1, 1), True), VECTOR)

    assert plan_of(model, NOTHING, "m").input == "text"


@pytest.mark.spec("ORCH-3075-002")
def test_a_model_that_tells_nothing_needs_names_and_gets_one_text_at_a_time() -> None:
    with pytest.raises(Unsupported, match="does not tell its tensors: name those"):
        plan_of(None, NOTHING, "m")
    plan = plan_of(None, EmbeddingSettings(input="a", output="b"), "m")

    assert plan == EmbeddingPlan(input="a", output="b")
    assert plan.rows_at_once(7) == 1


@pytest.mark.spec("ORCH-3075-004")
@pytest.mark.parametrize(
    "tensors, said",
    [
        ([TensorSpec("x", "FP32", (-1, 1)), VECTOR], "takes no texts: its inputs are x FP32"),
        ([TEXT, TensorSpec("vector", "INT64", (-1, 8))], "gives no embeddings: its outputs are vector INT64"),
        ([TensorSpec("text", "BYTES", (-1, 2)), VECTOR], "which is not one text after the other"),
        ([TEXT, TensorSpec("n", "INT32", (-1, 1)), VECTOR], "needs more than texts for its embeddings: inputs n"),
        (
            [TEXT, TensorSpec("vector", "BYTES", (-1, 1)), TensorSpec("vector_logprob", "FP32", (-1, 1))],
            "gives no embeddings",
        ),
    ],
)
def test_what_does_not_embed_is_refused_with_what_it_has(tensors: list[TensorSpec], said: str) -> None:
    with pytest.raises(Unsupported) as refused:
        plan_of(props(*tensors), NOTHING, "m")

    assert said in refused.value.message


@pytest.mark.spec("ORCH-3075-006")
def test_a_fault_is_one_only_where_no_model_has_what_is_named() -> None:
    good, bad = props(TEXT, VECTOR), props(TensorSpec("x", "FP32", (-1, 1)), VECTOR)
    named = EmbeddingSettings(input="texts")

    assert embeddings_fault([bad, good], EmbeddingSettings(input="text")) is None
    assert embeddings_fault([bad], NOTHING) is None
    assert embeddings_fault([good, bad], named) == (
        "model 'm' takes no texts by the input 'texts' that its pool's settings name: its inputs are text BYTES"
    )


@pytest.mark.spec("ORCH-3075-001", "ORCH-3075-005")
@pytest.mark.parametrize(
    "datatype, shape", [("FP32", (2, 3)), ("FP16", (2, 3)), ("FP64", (2, 1, 3)), ("BF16", (2, 3, 1))]
)
def test_vectors_are_32_bit_numbers_whatever_the_model_computes_with(datatype: Any, shape: tuple[int, ...]) -> None:
    numbers = np.array([1, -2, 0.5, 4, 8, 0.25]).reshape(shape)
    dtype = {"FP16": "float16", "FP64": "float64"}.get(datatype, "float32")
    tensor = Tensor.from_numpy("vector", numbers.astype(dtype), datatype)

    found = vectors_in(tensor, 2, "m")

    assert [np.frombuffer(each, "<f4").tolist() for each in found] == [[1, -2, 0.5], [4, 8, 0.25]]


@pytest.mark.spec("ORCH-3075-001")
@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3)])
def test_one_text_may_be_answered_without_a_batch(shape: tuple[int, ...]) -> None:
    [found] = vectors_in(Tensor.from_numpy("v", np.ones(shape, "float32")), 1, "m")

    assert len(found) == 12


@pytest.mark.spec("ORCH-3075-005")
@pytest.mark.parametrize(
    "array, texts",
    [
        (np.ones((3, 4), "float32"), 2),
        (np.ones((2, 5, 4), "float32"), 2),
        (np.ones((5, 4), "float32"), 1),
        (np.ones((4, 2), "float32"), 2),
        (np.ones((2, 0), "float32"), 2),
        (np.array([[1, np.nan]], "float32"), 1),
        (np.array([[1, np.inf]], "float32"), 1),
        (np.full((1, 2), 1e300), 1),
        (np.ones((2, 4), "int32"), 2),
    ],
)
def test_what_is_no_vector_for_each_text_is_the_engines_fault(array: Any, texts: int) -> None:
    with pytest.raises(ProtocolViolation):
        vectors_in(Tensor.from_numpy("v", array), texts, "m")
