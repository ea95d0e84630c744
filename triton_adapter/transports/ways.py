"""The ways to a Triton, and what each can do. The table in the documentation is made from this."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapter_api import Capability
from triton_adapter.address import Way
from triton_adapter.transports.base import Traits

GRPC = Traits(way="grpc", called="gRPC")

HTTP = Traits(
    way="http",
    called="HTTP",
    lacks={
        Capability.TENSOR_STREAM: "the events of `generate_stream` tell neither shapes nor datatypes; a model that "
        "answers once streams its one response",
    },
    limits={
        Capability.TENSORS: "BF16, and bytes that are no text, where the server takes binary tensors (Triton does)",
        Capability.CANCEL_HARD: "models that stream, from their first reply on: before it the server notices when it "
        "sends it; a model that answers once is not told at all",
        Capability.SEQUENCES: "models that answer once",
        Capability.TEXT: "a model that streams takes no FP16, BF16 or infinite numbers, and no `priority` `batch`",
    },
    stops_single_answers=False,
    stops_before_first_reply=False,
    schedules_streams=False,
)

WAYS: Mapping[Way, Traits] = MappingProxyType({"grpc": GRPC, "http": HTTP})
