"""`worker-adapter plugins`, and what strangers' packages do to the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker_adapter.program import run
from tests.worker_adapter.strangers import adapter_code, install

BROKEN = "import a_module_that_nobody_has\n"


def test_the_table_lists_what_is_installed() -> None:
    result = run("plugins")

    assert result.code == 0
    assert "mock://" in result.out
    assert "triton" in result.out


@pytest.mark.spec("ORCH-3054-015")
def test_our_own_adapters_are_listed_as_plugins_of_our_distribution() -> None:
    reports = {report["name"]: report for report in run("plugins", "--json").document["plugins"]}

    assert {"mock", "triton"} <= reports.keys()
    assert all(reports[name]["distribution"] == "worker-adapter" for name in ("mock", "triton"))
    assert all(reports[name]["status"] == "loaded" for name in ("mock", "triton"))


@pytest.mark.spec("ORCH-3054-008")
def test_a_broken_plugin_is_listed_with_its_reason(tmp_path: Path) -> None:
    result = run("plugins", env=install(tmp_path, "acme", BROKEN))

    (line,) = [line for line in result.out.splitlines() if line.startswith("acme")]
    assert result.code == 0
    assert "broken" in line
    assert "acme 1.2" in line
    assert "a_module_that_nobody_has" in line


@pytest.mark.spec("ORCH-3054-009")
def test_a_broken_package_beside_a_good_one_stops_neither_it_nor_ours(tmp_path: Path) -> None:
    install(tmp_path, "acme", BROKEN)
    env = install(tmp_path, "zeta", adapter_code("zeta", scheme="zeta"))

    assert run("submit", "--url", "zeta://", "--option", "reply=here", "hello", env=env).out == "here\n"
    assert run("submit", "--adapter", "mock", "--option", "reply=too", "hello", env=env).out == "too\n"


@pytest.mark.spec("ORCH-3054-013")
def test_asking_for_the_adapter_of_a_broken_package_is_a_usage_error_with_the_reason(tmp_path: Path) -> None:
    result = run("submit", "--adapter", "acme", "--json", "hello", env=install(tmp_path, "acme", BROKEN))

    assert result.code == 2
    assert result.error.code == "plugin_broken"
    assert "a_module_that_nobody_has" in result.error.message


def test_a_plugin_adds_a_command(tmp_path: Path) -> None:
    command = "(PluginCommand(name='tell', target='zeta_plugin:tell', help='Tell it.'),)"
    env = install(tmp_path, "zeta", adapter_code("zeta", commands=command))

    assert "Tell it." in run("--help", env=env).out
    assert run("tell", env=env).out == "told by zeta\n"


def test_a_plugin_cannot_replace_a_command_of_the_program(tmp_path: Path) -> None:
    command = "(PluginCommand(name='plugins', target='zeta_plugin:tell', help='Tell it.'),)"
    env = install(tmp_path, "zeta", adapter_code("zeta", commands=command))

    assert "Tell it." not in run("--help", env=env).out
    assert "told by" not in run("plugins", env=env).out


def test_a_command_that_two_plugins_offer_is_refused_with_a_way_out(tmp_path: Path) -> None:
    for name in ("zeta", "acme"):
        command = f"(PluginCommand(name='tell', target='{name}_plugin:tell', help='Tell it.'),)"
        env = install(tmp_path, name, adapter_code(name, commands=command))

    refused = run("tell", env=env)
    chosen = run("tell", env={**env, "WORKER_ADAPTER_BLOCK": "zeta"})

    assert refused.code == 2
    assert "WORKER_ADAPTER_BLOCK=zeta" in refused.err
    assert chosen.out == "told by acme\n"


def test_a_command_that_cannot_be_imported_hurts_only_itself(tmp_path: Path) -> None:
    command = "(PluginCommand(name='tell', target='zeta_plugin:nothing', help='Tell it.'),)"
    env = install(tmp_path, "zeta", adapter_code("zeta", commands=command))

    result = run("tell", env=env)

    assert result.code == 2
    assert "error[plugin_broken]" in result.err
    assert run("submit", "--adapter", "zeta", "--option", "reply=here", "hello", env=env).out == "here\n"


def test_commands_named_models_join_the_group_of_that_name(tmp_path: Path) -> None:
    code = adapter_code("zeta", commands="(PluginCommand(name='models', target='zeta_plugin:app', help='More.'),)")
    code += "import typer\napp = typer.Typer()\napp.command('tell')(tell)\n"
    code += "@app.command('other')\ndef other() -> None: ...\n"
    env = install(tmp_path, "zeta", code)

    assert run("models", "tell", env=env).out == "told by zeta\n"
    assert "mock" in run("models", "--url", "mock://", env=env).out


def test_a_plugin_whose_models_commands_are_broken_does_not_hide_the_others(tmp_path: Path) -> None:
    broken = "(PluginCommand(name='models', target='acme_plugin:nothing', help='More.'),)"
    install(tmp_path, "acme", adapter_code("acme", commands=broken))
    code = adapter_code("zeta", commands="(PluginCommand(name='models', target='zeta_plugin:app', help='More.'),)")
    env = install(tmp_path, "zeta", code + "import typer\napp = typer.Typer()\napp.command('tell')(tell)\n")

    result = run("models", "tell", env=env)

    assert result.out == "told by zeta\n"
    assert "acme_plugin:nothing" in result.err
