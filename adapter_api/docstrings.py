"""Docstrings as descriptions in a JSON Schema."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def level_descriptions(definitions: Mapping[str, dict[str, Any]]) -> None:
    """Take the indentation out of the descriptions of a schema's definitions.

    From Python 3.13 on the compiler takes it out of docstrings, and some releases of msgspec did (0.22, but not 0.23):
    what is published is to be the same with all of them.
    """
    for definition in definitions.values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
