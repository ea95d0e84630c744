"""Names and messages of an engine on the terminal: one line each, and nothing that it would obey; JSON has them as
they are."""

from __future__ import annotations

import json

import pytest

from tests.worker_adapter.program import run

no_spec = "how the command line shows what it is told"

NASTY = "m\x1b[2J\x1b]0;title\x07\n\u202eevil\u2066\x9b31m"
SHOWN = "m evil"
COMMANDS = (["models"], ["doctor"], ["props"], ["health"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_name_cannot_steer_the_terminal(command: list[str]) -> None:
    result = run(*command, "--adapter", "mock", "--option", f"models={json.dumps([NASTY, 'other'])}")

    assert SHOWN in result.out
    assert all(letter.isprintable() for letter in result.out.replace("\n", ""))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_has_a_name_as_it_is(command: list[str]) -> None:
    result = run(*command, "--json", "--adapter", "mock", "--option", f"models={json.dumps([NASTY])}")

    assert json.dumps(NASTY, ensure_ascii=False).strip('"') in json.dumps(json.loads(result.out), ensure_ascii=False)


def test_an_error_that_quotes_a_name_is_one_line() -> None:
    result = run("submit", "--adapter", "mock", "--model", NASTY, "hi")

    assert result.err.count("\n") == 1
    assert result.err.strip().isprintable()
