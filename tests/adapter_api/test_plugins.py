"""Discovery: entry points one by one, each with a report."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from adapter_api import (
    AdapterPlugin,
    Capability,
    ConfigurationError,
    PluginBroken,
    PluginHost,
    PluginStatus,
    TaskRequest,
    UnknownAdapter,
    hookimpl,
    load_plugins,
)
from adapter_api.testing import MockAdapter


def plugin(*records: AdapterPlugin, name: str = "acme_plugin", **hooks: Any) -> types.ModuleType:
    """A plugin module that registers `records`."""
    module = types.ModuleType(name)
    members = {"worker_adapter_register": lambda: list(records), **hooks}
    for hook, function in members.items():
        setattr(module, hook, hookimpl(function))
    return module


def record(name: str = "acme", **fields: Any) -> AdapterPlugin:
    return AdapterPlugin(**{"name": name, "adapter": "adapter_api.testing:MockAdapter", "api_version": "1.0", **fields})


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="worker_adapter")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, to write plugin modules into."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def status_of(host: PluginHost, name: str) -> PluginStatus:
    return next(report.status for report in host.reports if report.name == name)


@pytest.mark.spec("ORCH-3054-015")
def test_the_installed_plugins_are_found() -> None:
    host = load_plugins(block=())

    assert {"mock", "triton"} <= {adapter.name for adapter in host.adapters}


@pytest.mark.spec("ORCH-3054-008", "ORCH-3054-009", "ORCH-3054-013")
@pytest.mark.parametrize(
    "source, said",
    [
        ("raise ImportError('no libfoo')", "no libfoo"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import adapter_api\n@adapter_api.hookimpl\ndef worker_adapter_register(): 1/0", "ZeroDivisionError"),
        ("import adapter_api\n@adapter_api.hookimpl\ndef worker_adapter_register(): raise SystemExit(3)", "SystemExit"),
        ("import adapter_api\n@adapter_api.hookimpl\ndef worker_adapter_register(): return 'x'", "not AdapterPlugin"),
        ("import adapter_api\n@adapter_api.hookimpl\ndef worker_adapter_regsiter(): pass", "worker_adapter_regsiter"),
        ("import adapter_api\n@adapter_api.hookimpl\ndef worker_adapter_task_ended(nonsense): pass", "nonsense"),
        ("def worker_adapter_register(): pass", "write @hookimpl above it"),
        ("import adapter_api\ndef worker_adapter_collectors(): pass", "worker_adapter_collectors is not marked"),
    ],
    ids=[
        "import",
        "syntax",
        "exit",
        "hook raises",
        "hook exits",
        "hook returns",
        "unknown hook",
        "unknown argument",
        "unmarked",
        "unmarked collectors",
    ],
)
def test_a_broken_plugin_is_reported_and_hides_nothing(package: Path, source: str, said: str) -> None:
    module = f"broken_{abs(hash(source))}"
    (package / f"{module}.py").write_text(source, encoding="utf-8")

    host = load_plugins(block=(), entry_points=[entry("bad", module), entry("mock", "adapter_api.mock_plugin")])

    report = next(report for report in host.reports if report.name == "bad")
    assert report.status is PluginStatus.BROKEN
    assert said in report.reason
    assert [adapter.name for adapter in host.adapters] == ["mock"]
    with pytest.raises(PluginBroken, match="broken"):
        host.adapter("bad")


def test_a_missing_module_is_a_broken_plugin() -> None:
    host = load_plugins(block=(), entry_points=[entry("gone", "no_such_module_at_all")])

    assert status_of(host, "gone") is PluginStatus.BROKEN


@pytest.mark.spec("ORCH-3054-010")
@pytest.mark.parametrize(
    "api_version, status",
    [
        ("1.0", PluginStatus.LOADED),
        ("1.99", PluginStatus.INCOMPATIBLE),
        ("2.0", PluginStatus.INCOMPATIBLE),
        ("0.9", PluginStatus.INCOMPATIBLE),
        ("latest", PluginStatus.INCOMPATIBLE),
    ],
)
def test_the_contract_version_is_checked(api_version: str, status: PluginStatus) -> None:
    host = PluginHost()
    host.add("acme", plugin(record(api_version=api_version)))

    assert status_of(host, "acme") is status
    if status is PluginStatus.INCOMPATIBLE:
        with pytest.raises(PluginBroken, match=f"version {api_version}"):
            host.adapter("acme")


@pytest.mark.spec("ORCH-3054-011")
def test_two_providers_of_one_name_are_both_refused_until_one_is_blocked() -> None:
    host = PluginHost()
    host.add("first", plugin(record("same"), name="one"))
    host.add("second", plugin(record("same"), name="two"))
    host.add("other", plugin(record("other"), name="three"))

    assert [status_of(host, name) for name in ("first", "second")] == [PluginStatus.CONFLICT] * 2
    assert [adapter.name for adapter in host.adapters] == ["other"]
    with pytest.raises(PluginBroken, match="WORKER_ADAPTER_BLOCK"):
        host.adapter("same")


@pytest.mark.spec("ORCH-3054-012")
def test_a_blocked_plugin_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_ADAPTER_BLOCK", "bad, worse")

    host = load_plugins(entry_points=[entry("bad", "no_such_module"), entry("mock", "adapter_api.mock_plugin")])

    assert status_of(host, "bad") is PluginStatus.BLOCKED
    assert "no_such_module" not in sys.modules
    assert [adapter.name for adapter in host.adapters] == ["mock"]


@pytest.mark.spec("ORCH-3054-017")
def test_two_entry_points_of_one_name_are_both_reported(package: Path) -> None:
    (package / "other_mock.py").write_text("", encoding="utf-8")

    host = load_plugins(block=(), entry_points=[entry("mock", "adapter_api.mock_plugin"), entry("mock", "other_mock")])

    assert len(host.reports) == 2
    assert [adapter.name for adapter in host.adapters] == ["mock"]


@pytest.mark.spec("ORCH-3054-014")
def test_an_unknown_adapter_is_named_with_those_there_are() -> None:
    host = load_plugins(block=(), entry_points=[entry("mock", "adapter_api.mock_plugin")])

    with pytest.raises(UnknownAdapter, match=r"'nope'.*mock"):
        host.adapter("nope")


@pytest.mark.spec("ORCH-3054-019")
@pytest.mark.parametrize(
    "url, said",
    [
        ("gopher://x", "begins 'gopher://'"),
        ("localhost:8001", "the URL says no scheme"),
        ("", "the URL says no scheme"),
    ],
)
def test_a_url_nobody_serves_is_refused_with_the_schemes_there_are(url: str, said: str) -> None:
    host = load_plugins(block=(), entry_points=[entry("mock", "adapter_api.mock_plugin")])

    assert host.adapter_for_url("mock://x").name == "mock"
    with pytest.raises(UnknownAdapter, match=f"{said}.*mock://"):
        host.adapter_for_url(url)


@pytest.mark.spec("ORCH-3054-019")
def test_a_url_without_a_scheme_is_told_what_it_lacks() -> None:
    host = load_plugins(block=(), entry_points=[entry("mock", "adapter_api.mock_plugin")])

    with pytest.raises(UnknownAdapter, match=r"says no scheme.*mock://"):
        host.adapter_for_url("localhost:8001")


@pytest.mark.spec("ORCH-3054-020")
def test_a_url_that_several_serve_is_given_to_none_of_them() -> None:
    host = PluginHost()
    for name, schemes in (("b", ("http", "b")), ("a", ("http",))):
        host.add(name, registering(name, schemes))

    assert [adapter.name for adapter in host.adapters_for_url("HTTP://x")] == ["a", "b"]
    assert host.adapter_for_url("b://x").name == "b"
    with pytest.raises(UnknownAdapter, match=r"a, b.*--adapter a"):
        host.adapter_for_url("http://x")


def registering(name: str, schemes: tuple[str, ...]) -> object:
    """Return a plugin with an adapter that serves these schemes."""

    class Plugin:
        @hookimpl
        def worker_adapter_register(self) -> AdapterPlugin:
            return AdapterPlugin(
                name=name, adapter="adapter_api.testing:MockAdapter", settings="adapter_api.testing:MockSettings",
                api_version="1.0", url_schemes=schemes,
            )  # fmt: skip

    return Plugin()


@pytest.mark.spec("ORCH-3054-018")
@pytest.mark.parametrize("failure", [ValueError("plugin bug"), SystemExit(3)], ids=["raises", "exits"])
def test_a_hook_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture, failure: BaseException) -> None:
    heard: list[str] = []

    def explode(task: TaskRequest) -> None:
        raise failure

    host = PluginHost()
    host.add("good", plugin(name="good", worker_adapter_task_ended=lambda task: heard.append(task.model)))
    host.add("bad", plugin(name="bad", worker_adapter_task_ended=explode))

    host.call("worker_adapter_task_ended", task=TaskRequest(model="m", prompt="p"), terminal=None)

    assert heard == ["m"]
    assert "'bad'" in caplog.text


@pytest.mark.parametrize(
    "fields", [{"name": "Not Good"}, {"adapter": "no colon"}, {"settings": "a:b:c"}, {"harness": ":x"}]
)
def test_a_record_with_a_wrong_name_or_import_string_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="adapter"):
        record(**fields)


def test_an_adapter_is_made_from_options_by_name() -> None:
    adapter = load_plugins(block=()).adapter("mock").create({"reply": "hi"})

    assert isinstance(adapter, MockAdapter)
    assert adapter.settings.reply == "hi"


@pytest.mark.spec("ORCH-3054-006")
@pytest.mark.parametrize(
    "options, said", [({"replay": "x"}, "replay: unknown field"), ({"delay_s": "soon"}, "delay_s")]
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_plugins(block=()).adapter("mock").create(options)


def test_options_for_an_adapter_without_settings_are_refused() -> None:
    assert isinstance(record().create(), MockAdapter)
    with pytest.raises(ConfigurationError, match="takes no options"):
        record().create({"x": 1})


def test_an_adapter_that_cannot_be_imported_says_why() -> None:
    with pytest.raises(PluginBroken, match="no_such_module"):
        record(adapter="no_such_module:Adapter").create()
    with pytest.raises(PluginBroken, match="NoSuchClass"):
        record(adapter="adapter_api.testing:NoSuchClass").create()


@pytest.mark.parametrize(
    "target, said",
    [("adapter_api:End", "no WorkerAdapter class"), ("adapter_api:WorkerAdapter", "_health, _props, _submit")],
    ids=["another class", "incomplete"],
)
def test_what_is_no_complete_adapter_class_is_broken_and_says_what_lacks(target: str, said: str) -> None:
    with pytest.raises(PluginBroken, match=said):
        record(adapter=target).create()


def test_an_adapter_whose_module_exits_is_broken_and_does_not_end_the_program(package: Path) -> None:
    (package / "leaving.py").write_text("import sys; sys.exit('no licence')", encoding="utf-8")

    with pytest.raises(PluginBroken, match="SystemExit: no licence"):
        record(adapter="leaving:Adapter").create()


def test_capabilities_are_a_closed_set() -> None:
    assert Capability("streaming") is Capability.STREAMING
    with pytest.raises(ValueError, match="teleport"):
        Capability("teleport")


@pytest.mark.spec("ORCH-3054-016", "ORCH-3054-002")
def test_knowing_of_every_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, adapter_api; host = adapter_api.load_plugins(block=()); "
        "heavy = {'grpc', 'numpy', 'google.protobuf', 'fastapi', 'prometheus_client'} & sys.modules.keys(); "
        "print(sorted(heavy)); sys.exit(bool(heavy))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
