"""How the tiny language model keeps a constraint."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema
import pytest

from triton_adapter.embedded.model_code.tiny.constraint import constrained_text
from triton_adapter.embedded.model_code.tiny.generation import Generation
from triton_adapter.embedded.model_code.tiny.language import LanguageModel
from triton_adapter.embedded.model_code.tiny.sampling import SamplingParams

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 9, "maxLength": 12},
        "age": {"type": "integer", "minimum": 3, "maximum": 5},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2},
        "boss": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/id"}]},
        "ok": {"type": "boolean"},
    },
    "required": ["name", "age"],
    "$defs": {"id": {"type": "string", "pattern": "[A-Z]{2}-[0-9]+"}},
}


@pytest.mark.parametrize("seed", range(20))
def test_a_schema_is_kept(seed: int) -> None:
    jsonschema.validate(json.loads(constrained_text({"json": PERSON}, random.Random(seed))), PERSON)


@pytest.mark.parametrize("pattern", [r"\d{3}-[a-c]+(x|y)?", r"[^abc]\w*\s.", r"(foo|bar)+?", r"^\S\D[^x]$"])
def test_a_regular_expression_is_kept(pattern: str) -> None:
    for seed in range(20):
        assert re.fullmatch(pattern, constrained_text({"regex": pattern}, random.Random(seed)))


def test_any_object_and_a_choice_are_kept() -> None:
    assert isinstance(json.loads(constrained_text({"json_object": True}, random.Random(1))), dict)
    assert constrained_text({"choice": ["yes", "no"]}, random.Random(1)) in ("yes", "no")


@pytest.mark.parametrize("constraint", [{}, {"json_object": True, "regex": "a"}, {"grammar": "root"}, {"regex": "("}])
def test_a_constraint_that_cannot_be_kept_is_refused(constraint: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"structured_outputs|invalid regular expression"):
        constrained_text(constraint, random.Random(1))


def test_a_constrained_generation_ends_by_itself() -> None:
    model = LanguageModel()
    params = SamplingParams.from_mapping(
        {"structured_outputs": json.dumps({"regex": "[ab]{5}( [ab]{5}){9}"}), "max_tokens": 500, "ignore_eos": True}
    )
    generation = Generation(model, model.encode("Say"), params, room=500)
    text = ""
    while generation.finish_reason is None:
        text += generation.step().text

    assert re.fullmatch("[ab]{5}( [ab]{5}){9}", text)
    assert generation.finish_reason == "stop"
