"""The page of the ways to an engine says what the code says."""

from __future__ import annotations

import pytest
import ways

from adapter_api import Capability
from triton_adapter.transports.ways import WAYS


@pytest.mark.spec("ORCH-3066-010")
def test_the_table_is_fresh_and_has_every_way_and_capability() -> None:
    page = ways.PAGE.read_text(encoding="utf-8")

    assert ways.fresh(page) == page, "run scripts/ways.py"
    assert all(f"`{capability.value}`" in page for capability in Capability)
    assert all(f"triton, {traits.called}" in page for traits in WAYS.values())


@pytest.mark.spec("ORCH-3066-010")
def test_what_a_way_lacks_is_told_with_its_reason() -> None:
    way = ways.Row("x", frozenset({Capability.TEXT}), {Capability.TOOLS: "it has none"}, {Capability.TEXT: "in part"})

    made = ways.table([way])

    assert "| `text` | ✓ [1] |" in made
    assert "| `tools` | – [2] |" in made
    assert "1. `text` by x: in part.\n2. `tools` by x: it has none." in made
