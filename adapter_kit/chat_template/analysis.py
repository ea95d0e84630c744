"""What a template expects, told from its syntax tree: does it go through the parts of a content, or print a text?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from jinja2 import meta, nodes

_OPAQUE = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_IDS = frozenset({"id", "tool_call_id"})
_KEEP_PARTS = frozenset({"list", "select", "selectattr", "reject", "rejectattr", "reverse", "sort", "unique"})


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a template looks at."""

    parts: bool
    """It goes through a content's parts: text and images, in order."""
    tells_text: bool
    """It asks whether a content is a text, and so takes one, too."""
    tells_null: bool
    """It asks whether a content is null."""
    tool_calls: bool
    """It looks at the tool calls of a message."""
    image_type: str
    """What it calls a part that is an image."""
    id_length: int | None
    """How many characters it wants in the id of a tool call; `None` where it does not count them."""
    variables: frozenset[str]
    """Values that it looks up."""
    phrases: frozenset[str]
    """Its own words."""


def expected_by(tree: nodes.Template) -> Expected:
    """Return what the template of that tree looks at."""
    contents = _Contents(tree)
    phrases = frozenset(node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))
    return Expected(
        parts=contents.are_gone_through(),
        tells_text=contents.are_asked("string"),
        tells_null=contents.are_asked("none"),
        tool_calls="tool_calls" in phrases or any(each.attr == "tool_calls" for each in tree.find_all(nodes.Getattr)),
        image_type="image_url" if "image_url" in phrases and "image" not in phrases else "image",
        id_length=_id_length(tree),
        variables=frozenset(meta.find_undeclared_variables(tree)),
        phrases=phrases,
    )


def other_files(tree: nodes.Template) -> Iterator[int]:
    """Yield the lines where a template wants another one, which there is not."""
    for kind in _OPAQUE:
        yield from (node.lineno for node in tree.find_all(kind))


def _id_length(tree: nodes.Template) -> int | None:
    """`call.id | length != 9`"""
    for compared in tree.find_all(nodes.Compare):
        counted = compared.expr
        if isinstance(counted, nodes.Filter) and counted.name in ("length", "count") and _name_of(counted.node) in _IDS:
            for side in compared.ops:
                wanted = side.expr.value if isinstance(side.expr, nodes.Const) else None
                if side.op in ("eq", "ne") and isinstance(wanted, int):
                    return wanted
    return None


def _name_of(node: nodes.Node | None) -> Any:
    """Return the attribute, or the constant index, that an expression ends in."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) else None


class _Contents:
    """The expressions of a tree that are the content of a message, whatever name it was given on the way."""

    def __init__(self, tree: nodes.Template) -> None:
        self._tree = tree
        self._names: set[str] = set()
        self._attributes = {"content"}
        while self._follow():
            pass

    def are_gone_through(self) -> bool:
        if any(self._is(loop.iter) for loop in self._tree.find_all(nodes.For)):
            return True
        # `content[0]['type']`: of a text that would be a letter.
        whole = [each.node for each in self._tree.find_all(nodes.Getitem)]
        whole += [each.node for each in self._tree.find_all(nodes.Getattr)]
        return any(isinstance(each, nodes.Getitem) and self._is(each.node) and _is_number(each.arg) for each in whole)

    def are_asked(self, test: str) -> bool:
        if any(each.name == test and self._is(each.node) for each in self._tree.find_all(nodes.Test)):
            return True
        return test == "none" and any(
            self._is(each.expr) and isinstance(side.expr, nodes.Const) and side.expr.value is None
            for each in self._tree.find_all(nodes.Compare)
            for side in each.ops
        )

    def _follow(self) -> bool:
        """Take in the names of contents one assignment or call further; true when there are new ones."""
        before = len(self._names) + len(self._attributes)
        for assignment in self._tree.find_all(nodes.Assign):
            if self._is(assignment.node):
                target = assignment.target
                if isinstance(target, nodes.Name):
                    self._names.add(target.name)
                elif isinstance(target, nodes.NSRef):
                    self._attributes.add(target.attr)
        macros = {macro.name: macro for macro in self._tree.find_all(nodes.Macro)}
        for call in self._tree.find_all(nodes.Call):
            macro = macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
            if macro is not None:
                pairs = [*zip((name.name for name in macro.args), call.args, strict=False)]
                pairs += [(each.key, each.value) for each in call.kwargs]
                self._names |= {name for name, value in pairs if self._is(value)}
        return len(self._names) + len(self._attributes) > before

    def _is(self, node: nodes.Node | None) -> bool:
        if isinstance(node, nodes.Name):
            return node.name in self._names
        if isinstance(node, nodes.Getattr):
            return node.attr in self._attributes
        if isinstance(node, nodes.Getitem):
            return isinstance(node.arg, nodes.Const) and node.arg.value in self._attributes
        if isinstance(node, nodes.Filter):
            return node.name in _KEEP_PARTS and self._is(node.node)
        if isinstance(node, nodes.CondExpr):
            return self._is(node.expr1) or self._is(node.expr2)
        return isinstance(node, nodes.Or | nodes.And) and (self._is(node.left) or self._is(node.right))


def _is_number(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, int)
