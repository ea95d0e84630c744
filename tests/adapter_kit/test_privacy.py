"""A task's texts kept out of what is said about it."""

from __future__ import annotations

import json

import pytest

from adapter_kit.privacy import without, without_parts

no_spec = "the kit's own part of ORCH-3058's promise, which is tested with an engine that quotes"

SECRET = 'Tell "Zoë"\nabout midnight trains'


@pytest.mark.parametrize("form", [SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1]])
def test_a_whole_text_is_hidden_however_it_is_written(form: str) -> None:
    assert without(f"bad: {form}!", [SECRET]) == "bad: …!"


def test_a_text_that_is_too_common_is_left() -> None:
    assert without("no such id: 7", ["no"]) == "no such id: 7"


@pytest.mark.parametrize(
    "quoted", ["about midnight trains", "ABOUT  MIDNIGHT  TRAINS", "zoë about midnight", "Zoë, about-midnight"]
)
def test_parts_are_hidden_whatever_was_done_to_them(quoted: str) -> None:
    assert "midnight" not in without_parts(f"cannot read {quoted} (17)", [SECRET]).lower()
    assert without_parts(f"cannot read {quoted} (17)", [SECRET]).startswith("cannot read ")
