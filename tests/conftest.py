"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import queue
import re
from collections.abc import Generator, Iterator

import numpy as np
import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings
from tritonclient.grpc import InferenceServerClient, InferInput

from adapter_api import ConfigurationError
from tests.programs import summary
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.embedded.layout import check_supported
from triton_adapter.embedded.ports import choose_ports

_SHARED = pytest.StashKey[EmbeddedTriton]()
_STREAMS_WITHIN_S = 5.0
_FELL = "the shared Triton server died"
_DIED = "it died during this test"
_BY_ITSELF = re.compile(r"^Signal \(\d+\) received\.", re.MULTILINE)
"""What Triton writes last when it dies of a fault of its own."""

# The same examples in every run, and as much time as a busy machine takes for them.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector of cycles the tests themselves, some million objects that stay until the end.

    It would go through all of them again and again, while they are made and between tests: a tenth of the run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `live` where no server can run; where one can, a start that fails is a failure."""
    live = [item for item in items if item.get_closest_marker("live")]
    if not live:
        return
    try:
        check_supported()
    except ConfigurationError as refused:
        skip = pytest.mark.skip(reason=refused.message)
        for item in live:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which programs would have had more tests run, and under which tests Triton died."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        if (_FELL, report.nodeid) in report.user_properties:
            terminalreporter.write_line(f"run once more, as {_FELL} under it by itself: {report.nodeid}", yellow=True)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    if (line := summary(reasons)) is not None:
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str | tuple[str, dict[str, bool]]:
    """asyncio; on uvloop where `TEST_LOOP=uvloop` says so."""
    return ("asyncio", {"use_uvloop": True}) if os.environ.get("TEST_LOOP") == "uvloop" else "asyncio"


@pytest.fixture(scope="session")
def triton(pytestconfig: pytest.Config) -> Iterator[EmbeddedTriton]:
    """One real Triton server with the demo models, shared by all tests marked `live`.

    It is in explicit mode, so a test may load and unload models; it must leave them as it found them. A test that
    pauses, kills or stops a server starts one of its own.
    """
    ports = choose_ports({"gRPC": None, "HTTP": None, "metrics": None})
    with EmbeddedTriton(
        # Its own ports also after a restart.
        grpc_port=ports["gRPC"], http_port=ports["HTTP"], metrics_port=ports["metrics"],
        model_control_mode="explicit", load_models=["*"],
    ) as server:  # fmt: skip
        pytestconfig.stash[_SHARED] = server
        yield server
        del pytestconfig.stash[_SHARED]
        # Otherwise a death shows only as failures of whatever came after it.
        assert server.is_running, f"the shared Triton server died:\n{server.log_tail(60)}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test once more if the shared server died under it of a fault of its own, as the conformance suite does.

    Triton 2.51 seldom does of calls that are cancelled. It says nothing of what is tested; the end of the run names it.
    """
    if not item.get_closest_marker("live"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any((_FELL, item.nodeid) in report.user_properties for report in reports):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a failure, see whether the shared server is to blame, and spare the tests that follow a broken one."""
    report = yield
    server = item.config.stash.get(_SHARED, None)
    if report.failed and server is not None and item.get_closest_marker("live") and (fault := _fault_of(server)):
        tail = server.log_tail(60)
        report.sections.append(("shared Triton server", f"{fault}; it was started anew\n{tail}"))
        if fault == _DIED and _BY_ITSELF.search(tail):
            item.user_properties.append((_FELL, item.nodeid))
            report.user_properties.append((_FELL, item.nodeid))
        server.kill()
        server.start()
    return report


def _fault_of(server: EmbeddedTriton) -> str | None:
    """Say what keeps the server from streaming, asked with tritonclient rather than with what is being tested."""
    if not server.is_running:
        return _DIED
    answers: queue.Queue[object] = queue.Queue()
    prompt = InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(np.array([b"x"], dtype=np.object_))
    with InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        client.start_stream(lambda result, error: answers.put(result or error))
        client.async_stream_infer("splitter", [prompt], enable_empty_final_response=True)
        try:
            answers.get(timeout=_STREAMS_WITHIN_S)
        except queue.Empty:
            return f"it is running, but no stream was answered within {_STREAMS_WITHIN_S:.0f} s after this test"
        finally:
            client.stop_stream(cancel_requests=True)
    return None
