"""Which sequences of a stateful model are open, and what the server refuses because of that (Triton 2.51)."""

from __future__ import annotations

from collections.abc import Mapping

from adapter_api.task import ParameterValue
from triton_adapter.wire import v2_pb2 as v2

from .failure import TritonFailure


class Sequences:
    """The open sequences of one model. None ever ends by being idle."""

    def __init__(self) -> None:
        self.open: set[int | str] = set()

    def admit(self, config: v2.ModelConfig, parameters: Mapping[str, ParameterValue]) -> None:
        """Note the start or the end that a request brings; a model without state takes no notice.

        Raises:
            TritonFailure: It belongs to no sequence, or to one that was not started.
        """
        if config.WhichOneof("scheduling_choice") != "sequence_batching":
            return
        given = parameters.get("sequence_id")
        sequence = given if isinstance(given, (int, str)) else 0
        if not sequence:
            raise TritonFailure(
                "INVALID_ARGUMENT",
                f"inference request to model '{config.name}' must specify a non-zero or non-empty correlation ID",
            )
        if parameters.get("sequence_start") is True:
            self.open.add(sequence)
        elif sequence not in self.open:
            raise TritonFailure(
                "INVALID_ARGUMENT",
                f"inference request for sequence {sequence} to model '{config.name}' must specify the START flag on "
                "the first request of the sequence",
            )
        if parameters.get("sequence_end") is True:
            self.open.discard(sequence)
