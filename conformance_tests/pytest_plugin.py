"""The suite as a pytest plugin. In runs that do not use it, it adds a few options and imports nothing of ours.

The tests are plain functions of one fixture, so that no other plugin, event loop fixture or setting has a say in how
they run. What pytest's own configuration says about names of files and functions does not apply to them either.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance_tests.harness import Harness
    from conformance_tests.pytest_session import ConformanceRun, HarnessRun

SUITE = Path(__file__).parent / "suite"
_STATE = pytest.StashKey["ConformanceRun"]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("worker-adapter conformance")
    names = ["--conformance-adapter"]
    # The short name only where it is meant for us: a run of somebody else's may have an option of that name.
    if _is_asked_for(pluginmanager) and not _has_option(parser, "--adapter"):
        names.append("--adapter")
    group.addoption(*names, dest="conformance_adapter", metavar="NAME", help="run the suite on this adapter")
    group.addoption(
        "--conformance-option", dest="conformance_options", metavar="K=V", action="append", default=[],
        help="an option of the adapter's harness",
    )  # fmt: skip
    group.addoption("--conformance-report", metavar="DIR", help="write report.json, report.md and junit.xml there")
    group.addoption("--conformance-deviations", metavar="FILE", help="TOML file of failures that are known")
    group.addoption("--conformance-seed", type=int, default=0, help="seed of whatever the checks choose")
    group.addoption("--conformance-timeout", type=float, metavar="S", help="seconds that each check may take")
    group.addoption("--conformance-strict", action="store_true", help="count SHOULDs and what the harness cannot do")


def _is_asked_for(pluginmanager: pytest.PytestPluginManager) -> bool:
    config = pluginmanager.get_plugin("pytestconfig")
    arguments = config.invocation_params.args if isinstance(config, pytest.Config) else sys.argv[1:]
    return any(str(argument).startswith("conformance_tests") for argument in arguments)


def _has_option(parser: pytest.Parser, name: str) -> bool:
    groups = [*getattr(parser, "_groups", ()), getattr(parser, "_anonymous", None)]
    return any(name in option.names() for group in groups if group is not None for option in group.options)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the files of the suite, which have no names that pytest would go by."""
    if file_path.parent != SUITE or file_path.suffix != ".py" or file_path.stem == "__init__":
        return None
    from conformance_tests.pytest_session import SuiteModule

    return SuiteModule.from_parent(parent, path=file_path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(hasattr(getattr(item, "obj", None), "__conformance_check__") for item in items):
        _state(config).collected(items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        state = item.config.stash.get(_STATE, None)
        if state is not None or hasattr(getattr(item, "obj", None), "__conformance_check__"):
            _state(item.config).deselected(item)


def pytest_configure(config: pytest.Config) -> None:
    _configs.append(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    _configs.remove(config)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found = [value for name, value in report.user_properties if name == "conformance"]
    state = _configs[-1].stash.get(_STATE, None)
    if found:
        _state(_configs[-1]).heard(report, str(found[-1]))
    elif report.failed and state is not None:
        state.failed(report)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of pytest-xdist has collected; its results have come with the reports of its tests."""
    collected = getattr(node, "workeroutput", {}).get("conformance")
    if collected is not None:
        _state(node.config).collected_elsewhere(**collected)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash.get(_STATE, None)
    if state is not None:
        state.summarise(terminalreporter)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    state = session.config.stash.get(_STATE, None)
    if state is not None:
        state.finish(session)


_configs: list[pytest.Config] = []
"""The run's, last: `pytest_runtest_logreport` is not told it."""


def _state(config: pytest.Config) -> ConformanceRun:
    if _STATE not in config.stash:
        from conformance_tests.pytest_session import ConformanceRun

        config.stash[_STATE] = ConformanceRun(config)
    return config.stash[_STATE]


@pytest.fixture(scope="session")
def conformance_harness(request: pytest.FixtureRequest) -> Harness:
    """The harness of the adapter under test: override it in your test module, or name the adapter with `--adapter`."""
    return _state(request.config).default_harness()


@pytest.fixture
def conformance(request: pytest.FixtureRequest, conformance_harness: Harness) -> HarnessRun:
    """What the tests of the suite take: it runs their checks on `conformance_harness`."""
    return _state(request.config).on(conformance_harness, request.node)
