"""One scripted engine per family for the whole run, as it was when a test began."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openai_adapter.testing import FAMILIES, VLLM, FakeOpenAI, Family


@pytest.fixture(scope="session")
def _engines() -> Iterator[dict[str, FakeOpenAI]]:
    engines = {family.name: FakeOpenAI(family).__enter__() for family in FAMILIES}
    yield engines
    for engine in engines.values():
        engine.__exit__(None, None, None)


@pytest.fixture
def engine(_engines: dict[str, FakeOpenAI], request: pytest.FixtureRequest) -> FakeOpenAI:
    """The engine of the family that the test is parametrised with, vLLM's otherwise."""
    family: Family = getattr(request, "param", VLLM)
    found = _engines[family.name]
    found.forget_scripts()
    found.requests.clear()
    return found
