"""What other servers of the v2 protocol leave out: the fake acts it, and the real ones are held against it."""

from __future__ import annotations

from typing import NamedTuple

from triton_adapter.testing import FakeTriton
from triton_adapter.testing.failure import Code


class Holes(NamedTuple):
    """How a server differs from Triton."""

    without: tuple[str, ...] = ()
    """Calls that it answers with UNIMPLEMENTED."""
    lists_models: bool = True
    refuses_unknown: Code | None = None
    """With what it answers whether a model is ready that it does not have; `None`: that it is not."""
    flags_ends: bool = True
    name: str = "triton"


HOLES = {
    "mlserver": Holes(("ModelConfig", "ModelStatistics"), refuses_unknown="UNKNOWN", name="mlserver"),
    "kserve": Holes(("RepositoryIndex", "ModelConfig", "ModelStatistics"), refuses_unknown="NOT_FOUND", name="kserve"),
    "pytriton": Holes(lists_models=False),
    "dynamo": Holes(("ServerMetadata", "RepositoryIndex", "ModelStatistics"), flags_ends=False, name=""),
}


def act(fake: FakeTriton, server: str) -> None:
    """Have the fake behave as that server."""
    holes = HOLES[server]
    fake.act_as(
        holes.name, without=holes.without, lists_models=holes.lists_models, refuses_unknown=holes.refuses_unknown,
        flags_ends=holes.flags_ends,
    )  # fmt: skip
