"""Loading and unloading, as the model repository calls do it."""

from __future__ import annotations

from google.protobuf import json_format

from triton_adapter.wire import v2_pb2 as v2

from .core import Core
from .failure import TritonFailure
from .signatures import family_of, with_defaults


def load(core: Core, name: str, config: str | None = None, *, with_files: bool = False) -> None:
    """Load the model, with the configuration in JSON if one is given.

    A model that comes with its files need not be there yet; what its code would do, the fake cannot know.

    Raises:
        TritonFailure: The server does not allow it, has no such model, or cannot load it.
    """
    _check_allowed(core)
    if with_files and config is not None and name not in core.servings:
        core.add_model(name)
    serving = core.servings.get(name)
    if serving is None:
        raise TritonFailure("INTERNAL", f"failed to load '{name}', failed to poll from model repository")
    if config is not None:
        try:
            parsed = json_format.Parse(config, v2.ModelConfig(), ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise TritonFailure("INVALID_ARGUMENT", f"failed to load '{name}', {error}") from error
        parsed.name = name
        serving.config = with_defaults(parsed)
        serving.signature = family_of(parsed)
    serving.load()


def unload(core: Core, name: str) -> None:
    """Unload the model; one that is unknown or not loaded is none the worse for it."""
    _check_allowed(core)
    if name in core.servings:
        core.servings[name].unload()


def _check_allowed(core: Core) -> None:
    if core.model_control != "explicit":
        raise TritonFailure("UNAVAILABLE", "explicit model load / unload is not allowed if polling is enabled")
