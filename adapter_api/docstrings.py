"""Docstrings as descriptions in a JSON Schema."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def level_descriptions(definitions: Mapping[str, dict[str, Any]]) -> None:
    """Take the indentation out of the descriptions of a schema's definitions.

    The compiler takes it out of docstrings from Python 3.13 on, and msgspec from 0.23 on: what is published is to be
    the same with all of them.
    """
    for definition in definitions.values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
