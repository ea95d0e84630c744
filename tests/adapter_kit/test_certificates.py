"""When a certificate ends, read from its file; a certificate library says the same."""

from __future__ import annotations

import datetime

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from adapter_kit.certificates import expires_at

pytestmark = pytest.mark.spec("ORCH-3062-022")


@pytest.mark.parametrize("ends", [
    datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    datetime.datetime(2049, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),  # the last with two digits for its year
    datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC),
])  # fmt: skip
def test_the_end_of_a_certificate_is_read_to_the_second(ends: datetime.datetime) -> None:
    issued = trustme.CA().issue_cert("localhost", not_after=ends)

    assert expires_at(issued.cert_chain_pems[0].bytes()) == ends.timestamp()
    assert expires_at(b"a comment\n" + b"".join(each.bytes() for each in issued.cert_chain_pems)) == ends.timestamp()


def test_what_is_no_certificate_has_no_end() -> None:
    assert expires_at(b"") is None
    assert expires_at(trustme.CA().private_key_pem.bytes()) is None


PEM = trustme.CA().issue_cert("localhost").cert_chain_pems[0].bytes()


@given(st.integers(0, len(PEM) - 1), st.binary(max_size=4))
def test_a_damaged_one_is_no_crash(at: int, damage: bytes) -> None:
    found = expires_at(PEM[:at] + damage + PEM[at + len(damage) :])

    assert found is None or isinstance(found, float)
