"""Nothing is in the repository that belongs to a machine or a person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.repository import project_files, relative

LARGEST_KIB = 900

SUSPICIOUS = {
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:(?:home|Users)/(?!user\b|you\b)\w+|root/)"),
    "a private key": re.compile(r"-----BEGIN (?:\w+ )?PRIVATE KEY-----"),
    "a token of a code host": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20}"),
    "a cloud key": re.compile(r"\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}\b"),
    "a package registry of one's own": re.compile(r"(?:extra-)?index-url\s*=", re.IGNORECASE),
    "a merge conflict": re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE),
}


@pytest.mark.parametrize("what", SUSPICIOUS)
def test_no_file_holds(what: str) -> None:
    found = [relative(path) for path in texts() if SUSPICIOUS[what].search(path.read_text(encoding="utf-8"))]

    assert not found


def texts() -> list[Path]:
    this = Path(__file__)
    return [path for path in project_files() if path != this and b"\0" not in path.read_bytes()[:4096]]


def test_no_file_is_large() -> None:
    large = [relative(path) for path in project_files() if path.stat().st_size > LARGEST_KIB * 1024]

    assert not large


def test_nothing_in_the_code_is_left_open() -> None:
    left_open = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\bNotImplementedError\b")
    code = (path for path in texts() if path.suffix == ".py")

    found = [relative(path) for path in code if left_open.search(path.read_text(encoding="utf-8"))]

    assert not found
