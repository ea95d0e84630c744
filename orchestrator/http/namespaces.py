"""Tools that stand in a namespace: models know one name for each, of both, and clients get them apart. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapter_api import InvalidRequest
from adapter_kit.openai.messages import list_of

Spaces = Mapping[str, tuple[str, str]]
"""By the name that a model knows: the namespace, and the name in it."""


def flat_name(of: Mapping[str, Any]) -> Any:
    """Return the name by which a model knows the tool that is called, chosen or declared."""
    name, space = of.get("name"), of.get("namespace")
    return f"{space}__{name}" if isinstance(space, str) and space and isinstance(name, str) else name


def each_tool(tools: Iterable[Any], spaces: dict[str, tuple[str, str]]) -> Iterator[Any]:
    """Yield the tools, those of a namespace by their flat names, which go into `spaces`; raises `InvalidRequest`."""
    for tool in tools:
        if not isinstance(tool, dict) or tool.get("type") != "namespace":
            yield tool
            continue
        space = tool.get("name")
        if not isinstance(space, str) or not space:
            raise InvalidRequest("'tools': a namespace needs a 'name'")
        for inner in list_of(tool, "tools"):
            name = inner.get("name") if isinstance(inner, dict) else None
            if not isinstance(name, str) or not name:
                yield inner  # it is refused as any tool is
                continue
            flat = flat_name({"name": name, "namespace": space})
            spaces[flat] = (space, name)
            yield {**inner, "name": flat}
