"""Several adapters that serve one URL scheme: who is asked, and who has to say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.worker_adapter.program import run
from tests.worker_adapter.strangers import install

URL = "shared://127.0.0.1:1"


def plugin(name: str, *, health: str = "", open: str = "pass", offers: str = "") -> str:
    """Code of a plugin whose adapter claims `shared`; `health` is what its probe says, `offers` a `models` command."""
    commands = f"(PluginCommand(name='models', target='{name}_plugin:app', help='More.'),)" if offers else "()"
    return f"""
import anyio, typer
from adapter_api import AdapterPlugin, HealthReport, HealthState, PluginCommand, hookimpl
from adapter_api.testing import MockAdapter

class Adapter(MockAdapter):
    engine = {name!r}
    async def _open(self):
        {open}
    async def _health(self, *, canary):
        state = {health!r}
        if not state:
            return await super()._health(canary=canary)
        live = state != "unreachable"
        return HealthReport(state=HealthState(state), live=live, ready=state == "ready", detail="so says {name}")

app = typer.Typer()
@app.callback()
def group() -> None: ...
@app.command({offers or "none"!r})
def told(url: str = typer.Option(None, "--url", "-u")) -> None:
    print("told by {name}")

@hookimpl
def worker_adapter_register():
    return AdapterPlugin(name={name!r}, adapter="{name}_plugin:Adapter", api_version="1.0",
        settings="adapter_api.testing:MockSettings", url_schemes=("shared",), commands={commands})
"""


def both(folder: Path, acme: str, zeta: str) -> dict[str, str]:
    install(folder, "acme", acme)
    return install(folder, "zeta", zeta)


@pytest.mark.spec("ORCH-3054-020", "ORCH-3054-022")
@pytest.mark.parametrize("command", [["health"], ["props"], ["models"], ["submit", "hello"]])
def test_a_command_refuses_a_url_that_several_adapters_serve_until_one_is_named(
    tmp_path: Path, command: list[str]
) -> None:
    env = both(tmp_path, plugin("acme"), plugin("zeta"))

    refused = run(*command, "--url", URL, env=env)
    named = run(*command, "--url", URL, "--adapter", "zeta", env=env)

    assert (refused.code, named.code) == (2, 0)
    assert "acme, zeta" in refused.err
    assert "--adapter acme" in refused.err
    assert "doctor" in refused.err


@pytest.mark.spec("ORCH-3054-021")
def test_doctor_tells_of_the_first_whose_engine_takes_work_and_how_to_go_on(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme", health="unreachable"), plugin("zeta"))

    result = run("doctor", URL, env=env)

    assert result.code == 0
    assert "acme got no answer; zeta got an answer" in result.out
    assert f"worker-adapter models --adapter zeta --url {URL}" in result.out


@pytest.mark.spec("ORCH-3054-021")
def test_an_adapter_that_misreads_the_engine_does_not_hide_the_one_that_fits(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme", health="degraded"), plugin("zeta"))

    assert run("doctor", URL, "--json", env=env).document["adapter"] == "zeta"


@pytest.mark.spec("ORCH-3054-021")
def test_what_gets_an_answer_is_told_also_when_nobodys_engine_takes_work(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme", health="unreachable"), plugin("zeta", health="starting"))

    result = run("doctor", URL, "--json", env=env)

    assert (result.code, result.document["adapter"]) == (1, "zeta")


@pytest.mark.spec("ORCH-3054-021")
def test_an_adapter_that_hangs_or_breaks_as_it_opens_keeps_nobody_waiting(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme", open="await anyio.sleep_forever()"), plugin("zeta"))
    began = time.monotonic()

    result = run("doctor", URL, "--timeout", "0.1", env=env)

    assert time.monotonic() - began < 20
    assert result.code == 0
    assert "acme came to no end in its time; zeta got an answer" in result.out

    broken = both(tmp_path / "again", plugin("acme", open="raise KeyError('x')"), plugin("zeta"))
    out = run("doctor", URL, env=broken).out
    assert "acme cannot be used: " in out
    assert "zeta got an answer" in out


@pytest.mark.spec("ORCH-3054-021")
def test_where_nobody_gets_an_answer_doctor_exits_3_and_names_them_all(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme", health="unreachable"), plugin("zeta", health="unreachable"))

    result = run("doctor", URL, env=env)

    assert result.code == 3
    assert "acme, zeta serve such URLs" in result.out


@pytest.mark.spec("ORCH-3054-022")
def test_a_subcommand_of_models_goes_to_the_adapter_that_is_meant_and_to_no_other(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme", offers="pull"), plugin("zeta", offers="pull"))

    assert run("models", "pull", "--adapter", "zeta", "--url", URL, env=env).out == "told by zeta\n"
    assert run("models", "pull", "--adapter=acme", env=env).out == "told by acme\n"
    assert run("models", "pull", env={**env, "ORCHD_ZETA_URL": URL}).out == "told by zeta\n"
    for refused in (["pull"], ["pull", "--url", URL], ["pull", "--url", "nobody://x"], ["pull", "--url", "mock://"]):
        result = run("models", *refused, env=env)
        assert (result.code, result.out) == (2, ""), refused


@pytest.mark.spec("ORCH-3054-022")
def test_a_subcommand_does_not_speak_its_own_wire_to_an_engine_of_several(tmp_path: Path) -> None:
    env = both(tmp_path, plugin("acme"), plugin("zeta", offers="pull"))

    assert run("models", "pull", env=env).out == "told by zeta\n"
    result = run("models", "pull", "--url", URL, env=env)
    assert result.code == 2
    assert "acme, zeta" in result.err


@pytest.mark.spec("ORCH-3054-022")
def test_the_models_commands_of_triton_do_not_take_the_url_of_nobody(closed_url: str) -> None:
    result = run("models", "load", "m", "--url", closed_url.replace("grpc://", "nobody://"))

    assert result.code == 2
    assert "nobody://" in result.err
