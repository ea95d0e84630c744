"""Where no real server runs the demo runs on a fake one, and says so first."""

from __future__ import annotations

import json

import pytest

from adapter_api import AdapterPlugin
from tests.worker_adapter.program import Finished, run
from worker_adapter.demo.engine import choose_engine

no_spec = "what the demo does without a server is the program's own affair"


@pytest.fixture(scope="module")
def without_server(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which no server can be had: the Python that is named is none."""
    folder = tmp_path_factory.mktemp("other")
    return {"TRITON_SERVER_PYTHON": str(folder / "no-python"), "TRITON_SERVER_BINARY": ""}


@pytest.fixture(scope="module")
def shown(without_server: dict[str, str]) -> Finished:
    return run("demo", env=without_server)


def test_the_first_line_says_that_it_is_a_fake_and_what_to_do(shown: Finished) -> None:
    first = shown.out.splitlines()[0]

    assert first.startswith("A FAKE triton answers below")
    assert "no-python is no working Python interpreter" in first


def test_it_goes_as_on_the_real_one(shown: Finished) -> None:
    assert shown.code == 0
    assert "same prompt, same seed: the same text, byte for byte" in shown.out
    assert "to cancel: cancelled in" in shown.out
    assert "2 of 2 models ready" in shown.out


def test_a_program_is_told_too(without_server: dict[str, str]) -> None:
    found = run("demo", "--json", env=without_server)
    documents = [json.loads(line) for line in found.out.splitlines()]

    assert (found.code, found.err) == (0, "")
    assert documents[0]["type"] == "fake"
    assert documents[0]["engine"] == "triton"


class Able:
    @staticmethod
    def obstacle() -> str | None:
        return None


class Unable:
    @staticmethod
    def obstacle() -> str | None:
        return "no wheel; install one"


class Silent:
    """Says nothing about obstacles, as an engine need not."""


class Fake: ...


def plugin(embedded: type, fake: type | None = Fake) -> AdapterPlugin:
    return AdapterPlugin(
        name="some", adapter="x:Y", api_version="1.0", embedded=f"{__name__}:{embedded.__name__}",
        fake=None if fake is None else f"{__name__}:{fake.__name__}",
    )  # fmt: skip


def chosen(plugin: AdapterPlugin) -> tuple[object, str | None]:
    return choose_engine(plugin)


def test_the_fake_is_for_where_there_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdapterPlugin, "load", lambda self, field: globals()[getattr(self, field).partition(":")[2]])

    assert chosen(plugin(Able)) == (Able, None)
    assert chosen(plugin(Silent)) == (Silent, None)
    assert chosen(plugin(Unable)) == (Fake, "no wheel; install one")
    assert chosen(plugin(Unable, fake=None)) == (Unable, None)
