"""What is left of a sentence once it names no place any more."""

from __future__ import annotations

import pytest

from adapter_kit.addresses import host_names, without_addresses


@pytest.mark.spec("ORCH-3064-039")
@pytest.mark.parametrize(
    "text, told",
    [
        ("model 'x' on grpc://10.0.0.7:8001: it is loading", "model 'x': it is loading"),
        ("grpc://h:8001: no connection within 3 s", "the engine: no connection within 3 s"),
        ("cannot reach grpcs://[::1]:8001/a?b=c: refused", "cannot reach the engine: refused"),
        ("last error: ipv4:127.0.0.1:8001: Connection refused", "last error: the engine: Connection refused"),
        ("last error: ipv6:%5B::1%5D:8001: refused", "last error: the engine: refused"),
        ("unix:/run/triton.sock: gone", "the engine: gone"),
        ("peer triton-0:8001 closed", "peer the engine closed"),
        ("see http://user:pw@gpu-7.corp.example:9000/v2.", "see the engine."),
        ("DNS resolution failed for gpu-7.corp: none", "DNS resolution failed for the engine: none"),
        ('File "/models/x/1/model.py", line 3, in run', 'File "…", line 3, in run'),
        (
            "GET /v1/models lists them; /docs and /v2/tasks/x too",
            "GET /v1/models lists them; /docs and /v2/tasks/x too",
        ),
        ("no model 'org/name', and/or 3:45 at 12:30:10, 1.2.3", "no model 'org/name', and/or 3:45 at 12:30:10, 1.2.3"),
        ("settings:\n  orchestrator.toml:27: a key", "settings:\n  orchestrator.toml:27: a key"),
        ("/etc/host/orchestrator.toml:1234: a key", "…:1234: a key"),
        ("max_tokens is 9 and model 'm' takes at most 8", "max_tokens is 9 and model 'm' takes at most 8"),
    ],
)
def test_places_go_and_the_rest_stays(text: str, told: str) -> None:
    assert without_addresses(text, ["gpu-7.corp"]) == told


@pytest.mark.spec("ORCH-3064-039")
def test_the_hosts_of_an_adapters_options_are_found_and_plain_words_are_not() -> None:
    options = {
        "url": "grpc://t-0.ns:1",
        "more": {"urls": ["u.v:3", "http://1.2.3.4"]},
        "model": "a.b",
        "x": "triton:80",
    }

    assert list(host_names(options)) == ["t-0.ns", "u.v", "1.2.3.4"]
