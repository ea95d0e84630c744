"""Test doubles for Triton, for the tests of this project and of everyone else.

    def test_it_greets(fake_triton):                        # the pytest fixture
        fake_triton.model("llama").respond_with_text("Hello there!")
        ...                                                 # talk to fake_triton.grpc_url

`FakeTriton` is a server on the real wire with scripted models; `FaultProxy` stands in front of any server and breaks
the connection. `script.py` has the steps a model can take, `signatures.py` the model families it can pose as. The
names below are imported on first use, so that pytest can load the plugin without loading gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .failure import TritonFailure
    from .families import Silent
    from .frames import ErrorCode
    from .model import FakeModel
    from .proxy import FaultProxy
    from .records import RecordedCall, RecordedRequest
    from .server import FakeTriton, ServerTls

_HOMES = {
    "ErrorCode": "frames",
    "FakeModel": "model",
    "FakeTriton": "server",
    "FaultProxy": "proxy",
    "RecordedCall": "records",
    "RecordedRequest": "records",
    "ServerTls": "server",
    "Silent": "families",
    "TritonFailure": "failure",
}

__all__ = [
    # the fake server and its models
    "FakeTriton",
    "FakeModel",
    "Silent",
    "ServerTls",
    "TritonFailure",
    # what it saw
    "RecordedCall",
    "RecordedRequest",
    # the broken way
    "FaultProxy",
    "ErrorCode",
]


if not TYPE_CHECKING:  # with it, a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
