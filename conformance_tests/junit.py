"""The report as JUnit XML, for whatever a build server shows: the requirement's ID is a property of each test case."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from conformance_tests.outcome import Status
from conformance_tests.report import Report, Result

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FAILURES = (Status.FAILED, Status.UNEXPECTED_PASS)
_ERRORS = (Status.BROKEN, Status.BLOCKED)


def render_junit(report: Report) -> bytes:
    """Return the XML document."""
    failures = sum(result.status in _FAILURES for result in report.results)
    errors = sum(result.status in _ERRORS for result in report.results)
    passed = sum(result.status is Status.PASSED for result in report.results)
    suite = ElementTree.Element(
        "testsuite",
        name=f"conformance of {report.under.adapter}",
        tests=str(len(report.results)),
        failures=str(failures),
        errors=str(errors),
        skipped=str(len(report.results) - failures - errors - passed),
        time=f"{report.duration_s:.3f}",
        timestamp=report.started_at,
    )
    _properties(suite, verdict=report.verdict, catalog=report.catalog, suite_version=report.suite_version)
    for result in report.results:
        suite.append(_case(result))
    if report.engine_deaths:
        told = [report.deaths_told, *(f"{death.requirement}: {death.reason}" for death in report.engine_deaths)]
        ElementTree.SubElement(suite, "system-out").text = _legal("\n".join(told))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(result: Result) -> ElementTree.Element:
    module, _, function = (result.check or result.id).partition("::")
    case = ElementTree.Element("testcase", classname=module, name=function or module, time=f"{result.duration_s:.3f}")
    _properties(case, requirement=result.id, keyword=result.keyword, status=result.status, text=result.text)
    if result.status in _FAILURES:
        _child(case, "failure", result)
    elif result.status in _ERRORS:
        _child(case, "error", result)
    elif result.status is not Status.PASSED:
        _child(case, "skipped", result)
    return case


def _child(case: ElementTree.Element, tag: str, result: Result) -> None:
    ElementTree.SubElement(case, tag, message=_legal(f"{result.id} {result.status}: {result.reason}"))


def _properties(parent: ElementTree.Element, **values: str) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", name=name, value=_legal(value))


def _legal(text: str) -> str:
    """Return text without the characters that XML 1.0 cannot hold."""
    return _ILLEGAL.sub("?", text)
