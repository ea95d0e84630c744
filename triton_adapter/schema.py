"""What a dialect and a transport say to each other: plain values, no I/O, no protobuf.

A `ModelSchema` is what a model declares, an `EncodedTask` is what goes to it, and `Reply`s are what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import msgspec

from adapter_api import Tensor
from adapter_api.task import ParameterValue

Scheduling = Literal["none", "dynamic_batching", "sequence_batching", "ensemble"]


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One declared input or output. `dims` are the configuration's: without the batch dimension, -1 for any size."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool | None = False
    """`None` where the server cannot tell: plain v2 metadata has no word for it."""


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """What a model declares about itself, from its configuration and metadata."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    version: str | None = None
    """The version that runs when none is asked for; `None` when that cannot be told."""
    versions: tuple[str, ...] = ()
    platform: str = ""
    backend: str = ""
    max_batch_size: int = 0
    """0: the model takes no batch dimension; above 0: every tensor has one in front of its `dims`."""
    decoupled: bool = False
    """Any number of responses per request: streamed calls only."""
    scheduling: Scheduling = "none"
    parameters: Mapping[str, str] = field(default_factory=_nothing)
    """The configuration's own `parameters`, as text."""
    allow_timeout_override: bool = False
    """Whether the request parameter `timeout` has any effect in the model's queue."""
    priority_levels: int = 0
    """0: priorities are ignored; else 1 is the highest and this the lowest."""
    max_queue_size: int = 0
    """0: without a bound."""
    preserve_ordering: bool = False
    ensemble_steps: tuple[str, ...] = ()
    """The models of an ensemble, in the order of its configuration."""
    instance_count: int = 1
    server_version: str = ""
    """That of the server, where it told: a backend usually comes with it."""
    instances_told: bool = False
    """Whether `instance_count` is what the server told."""
    configured: bool = True
    """Whether the server told the model's configuration. Without it what is declared is advice, not law: some servers
    check nothing, and none says what is optional, what runs the model, or that it streams."""

    @property
    def batched(self) -> bool:
        """Whether tensors carry a batch dimension."""
        return self.max_batch_size > 0

    @property
    def slots(self) -> int | None:
        """Requests that it works on at once; `None` where an instance may take any number.

        An instance of a model that answers once is busy until it has answered its batch. A decoupled one returns at
        once and answers later, vLLM and TensorRT-LLM above all; an ensemble has no instances; sequences keep theirs.
        """
        if not self.instances_told or self.decoupled or self.scheduling in ("ensemble", "sequence_batching"):
            return None
        return self.instance_count * max(self.max_batch_size, 1)

    @property
    def is_bls(self) -> bool:
        """Whether it is TensorRT-LLM's BLS model; its first releases have only the first of these parameters."""
        return "accumulate_tokens" in self.parameters or "tensorrt_llm_model_name" in self.parameters


Version = tuple[int, int]

_NUMBERS = re.compile(r"^(\d{1,9})\.(\d{1,9})")


def parse_version(text: str) -> Version | None:
    """Return major and minor version; `None` for what does not begin with them."""
    found = _NUMBERS.match(text)
    return (int(found[1]), int(found[2])) if found else None


class EncodedTask(msgspec.Struct, frozen=True, gc=False):
    """A task in the model's own tensors. No `outputs` asks for all of them."""

    inputs: tuple[Tensor, ...]
    parameters: Mapping[str, ParameterValue] = msgspec.field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    streaming: bool = True
    """Whether it goes out as ModelStreamInfer; else as ModelInfer."""
    prompt: int | None = None
    """Which of the inputs is the prompt's text; all the others are the same for every prompt. `None` where that is not
    so, as with token ids."""


class RawTensor(msgspec.Struct, frozen=True, gc=False):
    """One output as it came: `data` is the protocol's raw form (little-endian; BYTES elements length-prefixed).

    A msgspec struct, as `Reply` is: one or more are made per token.
    """

    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


class Run(msgspec.Struct, frozen=True, gc=False):
    """Messages of a stream that are, byte for byte, like the `Reply` before them but for the text of its first output.

    That output is of one BYTES element, and the reply is not the last. What a burst of tokens comes to.
    """

    texts: list[bytes]


class Reply(msgspec.Struct, gc=False):
    """One message from the engine. `final` is `None` when the message did not say; `error` excludes outputs.

    A msgspec struct because one is made per token: a third of what an `__init__` in Python costs.
    """

    outputs: dict[str, RawTensor]
    parameters: dict[str, ParameterValue] = {}
    final: bool | None = None
    model_version: str = ""
    error: str | None = None
