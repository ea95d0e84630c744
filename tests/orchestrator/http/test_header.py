"""Headers are found where they lie."""

from __future__ import annotations

import pytest

from orchestrator.http.header import header_of

no_spec = "a small function behind requirements of the faces"

HEADERS = [(b"host", b"one"), (b"x-odd", b"\xe9"), (b"host", b"two"), (b"x-empty", b"")]


@pytest.mark.parametrize(
    "name, found", [(b"host", "one"), (b"x-odd", "\xe9"), (b"x-empty", ""), (b"origin", "none"), (b"Host", "none")]
)
def test_the_first_of_a_name_counts(name: bytes, found: str) -> None:
    assert header_of({"headers": HEADERS}, name, "none") == found


def test_there_need_not_be_one() -> None:
    assert header_of({"headers": []}, b"host") is None
