"""Programs that some tests run and pip does not install; without one its tests are skipped, all in the same words."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable

import pytest

_NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome")}
_PACKAGES = {"promtool": "prometheus", "systemd-analyze": "systemd"}
_REASON = re.compile(r"needs (?P<program>[\w-]+) on PATH: apt-get install (?P<package>[\w-]+)$")


def needs(program: str) -> pytest.MarkDecorator:
    """Mark tests that cannot run without `program`."""
    return pytest.mark.skipif(_find(program) is None, reason=_reason(program))


def path_of(program: str) -> str:
    """Return the path of `program`, for tests that are marked with `needs`.

    Nothing is skipped here: a skip is an exception, and one in the middle of a test, beside a host's tasks, is told
    once more when a task is collected that nobody asked for it, as the failure of another test.
    """
    found = _find(program)
    assert found is not None, f"mark the test with needs({program!r})"
    return found


def summary(reasons: Iterable[str]) -> str | None:
    """Return one line about all tests that were skipped for want of a program, given why each one was skipped."""
    missing = [match for reason in reasons if (match := _REASON.search(reason))]
    if not missing:
        return None
    programs = Counter(match["program"] for match in missing)
    packages = sorted({match["package"] for match in missing})
    each = ", ".join(f"{program} ({count})" for program, count in sorted(programs.items()))
    remedy = f"apt-get install {' '.join(packages)}"
    return f"{len(missing)} tests skipped for want of programs: {each}; to have them run: {remedy}"


def _find(program: str) -> str | None:
    return next((found for name in _NAMES.get(program, (program,)) if (found := shutil.which(name))), None)


def _reason(program: str) -> str:
    return f"needs {program} on PATH: apt-get install {_PACKAGES.get(program, program)}"
