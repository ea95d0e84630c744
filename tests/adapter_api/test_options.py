"""Options as people type them."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import ConfigurationError
from adapter_api.options import parse_options

no_spec = "how options are typed is the program's affair; what an adapter does with them is ORCH-3054-006"


@pytest.mark.parametrize(
    "texts, options",
    [
        ([], {}),
        (["url=grpc://h:1", "reply=a=b"], {"url": "grpc://h:1", "reply": "a=b"}),
        (["tls.ca_file=ca.pem", "tls.server_name=x"], {"tls": {"ca_file": "ca.pem", "server_name": "x"}}),
        (
            ['models={"m": {"dialect": "vllm"}}', "names=[1, 2]"],
            {"models": {"m": {"dialect": "vllm"}}, "names": [1, 2]},
        ),
        (["empty="], {"empty": ""}),
    ],
)
def test_options_are_read(texts: list[str], options: dict[str, Any]) -> None:
    assert parse_options(texts) == options


@pytest.mark.parametrize(
    "texts, said",
    [
        (["s3cret"], "KEY=VALUE"),
        (["=s3cret"], "KEY=VALUE"),
        (["a=s3cret", "a=s3cret"], "'a' was given twice"),
        (["a=s3cret", "a.b=s3cret"], "value and as a group"),
        (['a={"s3cret'], "not"),
    ],
)
def test_a_wrong_option_is_refused_without_its_value(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        parse_options(texts)

    assert "s3cret" not in str(caught.value)
