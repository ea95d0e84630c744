"""Errors in OpenAI's form: which field is at fault."""

from __future__ import annotations

import pytest

from adapter_api import Error, InvalidRequest
from orchestrator.http.problems import openai_body
from orchestrator.http.reading import parse_object


@pytest.mark.spec("ORCH-3064-003")
@pytest.mark.parametrize(
    "message, param",
    [
        ("model 'm' takes no tools on any replica of pool 'p'; a chat_template of the pool gives it them", "tools"),
        ("model 'm' takes no logprobs and no tools on any replica of pool 'p'", "logprobs"),
        ("""model "it's" takes no response_format on any replica of pool 'p'""", "response_format"),
        ("model 'm' takes no prompt_token_ids on any replica of pool 'p'", "prompt"),
        ("model 'm' takes no image_urls on any replica of pool 'p'", "messages"),
        ("model 'm' takes no more than 8 max_tokens on any replica of pool 'p'", "max_tokens"),
        ("no replica of pool 'p' can do all that this asks of model 'm': a takes no tools; b takes no seed", None),
    ],
)
def test_what_a_model_is_not_capable_of_is_told_as_the_field_that_asks_for_it(message: str, param: str | None) -> None:
    told = openai_body(Error(code="unsupported", message=message, retryable=False))

    assert told["error"]["param"] == param


@pytest.mark.spec("ORCH-3064-003")
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_body_is_called_empty(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body is empty, and has to be JSON"):
        parse_object(data)
