"""The program's entry: instant help, usage errors in one sentence, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker_adapter.program import environment, run

COMMANDS = ("demo", "submit", "health", "props", "models", "plugins", "triton")


def modules_after(*arguments: str) -> set[str]:
    """The modules that the program has imported when it is done."""
    code = (
        "import sys, json\n"
        "from worker_adapter.cli import main\n"
        f"sys.argv = ['worker-adapter', *{list(arguments)!r}]\n"
        "main()\n"
        "print(json.dumps(list(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment(), check=True
    )
    return set(json.loads(found.stderr.splitlines()[-1]))


def test_help_names_every_command_those_of_plugins_included() -> None:
    result = run("--help")

    assert result.code == 0
    assert all(f"\n  {command} " in result.out for command in COMMANDS)


@pytest.mark.parametrize("arguments", [("--help",), ("plugins",), ("plugins", "--json")])
def test_what_must_be_instant_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    heavy = {"grpc", "numpy", "tritonclient", "rich", "orchestrator", "prometheus_client", "triton_adapter.adapter"}

    assert modules_after(*arguments) & heavy == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")

    assert (result.code, result.err) == (0, "")
    assert "Usage: worker-adapter" in result.out


def test_no_command_shows_the_help_and_is_a_usage_error() -> None:
    result = run()

    assert result.code == 2
    assert "Commands:" in result.out


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert run("--version").out == f"worker-adapter {version('worker-adapter')}\n"


def test_a_misspelt_command_is_a_usage_error_that_suggests_the_right_one() -> None:
    result = run("helth")

    assert result.code == 2
    assert "error[invalid_request]" in result.err
    assert "Did you mean 'health'?" in result.err


def test_an_unknown_option_is_a_usage_error_that_names_it() -> None:
    result = run("submit", "--adapter", "mock", "--max-token", "3", "hello")

    assert result.code == 2
    assert "--max-token" in result.err


def test_a_usage_error_is_an_error_event_with_json() -> None:
    result = run("submit", "--adapter", "mock", "--max-tokens", "many", "--json", "hello")

    assert result.code == 2
    assert result.error.code == "invalid_request"
    assert "'--max-tokens'" in result.error.message


def test_a_prompt_that_was_not_quoted_is_not_repeated() -> None:
    result = run("submit", "--adapter", "mock", "my", "secret", "plans")

    assert result.code == 2
    assert "quotes" in result.err
    assert "secret" not in result.err + result.out


def test_an_option_after_two_dashes_is_a_prompt() -> None:
    result = run("submit", "--adapter", "mock", "--option", "reply=yes", "--", "--json")

    assert (result.code, result.out) == (0, "yes\n")


def test_colours_are_for_terminals_only() -> None:
    assert "\x1b" not in run("plugins").out + run("submit", "--adapter", "nope", "x").err


def test_a_bug_is_told_without_a_traceback_and_without_its_message(tmp_path: Path) -> None:
    env = plugin_with_a_bug(tmp_path)

    result = run("buggy", env=env)

    assert result.code == 1
    assert "error[adapter_failed]" in result.err
    assert "ValueError" in result.err
    assert "Traceback" not in result.err
    assert "my secret prompt" not in result.err


def test_debug_shows_where_a_bug_is(tmp_path: Path) -> None:
    result = run("--debug", "buggy", env=plugin_with_a_bug(tmp_path))

    assert result.code == 1
    assert "Traceback" in result.err
    assert "buggy_plugin.py" in result.err


def plugin_with_a_bug(folder: Path) -> dict[str, str]:
    from tests.worker_adapter.strangers import install

    return install(
        folder,
        "buggy",
        "from adapter_api import AdapterPlugin, PluginCommand, hookimpl\n"
        "def buggy() -> None:\n"
        "    raise ValueError('my secret prompt')\n"
        "@hookimpl\n"
        "def worker_adapter_register():\n"
        "    command = PluginCommand(name='buggy', target='buggy_plugin:buggy', help='Break.')\n"
        "    return AdapterPlugin(name='buggy', adapter='m:A', api_version='1.0', commands=(command,))\n",
    )
