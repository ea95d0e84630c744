"""Runs chat templates: jinja2 with what they are written for, and in bounds, since each is a stranger's program.

The sandbox keeps a template from the host's objects, files and network. Its work is metered: each turn of a loop, each
call, filter and operator is a step, and what they make costs steps by its size (`bounds.py`). A render holds its thread
for as long as it runs (`beside.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from adapter_kit.chat_template.bounds import (
    LARGEST,
    Meter,
    TooMuch,
    metered_by,
    require_modest,
    require_narrow_fields,
    require_no_product,
    require_short_fields,
    sized,
    step,
    weighed,
)


class Refused(Exception):
    """The template itself refuses what it was given, by `raise_exception`."""


def compile_template(tree: nodes.Template) -> Template:
    """Return the template of a parsed tree (`parse`), ready for `run`.

    Raises:
        Exception: It cannot be compiled, for whichever reason: jinja2 finds some faults only now, and Python others.
    """
    return _ENVIRONMENT.from_string(_Metering().visit(tree))


def parse(source: str) -> nodes.Template:
    """Return the tree of a template; raises `TemplateSyntaxError`, or `RecursionError` where it is nested too deep."""
    return _ENVIRONMENT.parse(source)


def run(template: Template, values: Mapping[str, Any], meter: Meter) -> str:
    """Return what the template makes of `values`. Whatever it raises, passes: see `Refused` and `TooMuch`."""
    with metered_by(meter):
        pieces, length = [], 0
        for piece in template.generate(values):
            length += len(piece)
            if length > LARGEST:
                raise TooMuch(f"it makes a prompt of more than {LARGEST:,} characters")
            meter.step()
            pieces.append(piece)
        return "".join(pieces)


@pass_context  # which keeps the compiler from computing it in advance
def _metered(context: Any, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        step()
        yield item


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that is paid for."""

    @wraps(function)  # with the marks of jinja2, which say what the filter is passed
    def filtered(*args: Any, **kwargs: Any) -> Any:
        require_modest(args)
        require_modest(kwargs.values())
        if name == "format":
            require_narrow_fields(args[0])
            require_short_fields(str(args[0]), (*args[1:], *kwargs.values()))
        require_no_product(name, (*args, *kwargs.values()))
        return sized(function(*args, **kwargs))

    return filtered


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        step()
        require_modest(args)
        require_modest(kwargs.values())
        if isinstance(obj, LoopContext) and args:  # a recursive loop goes a level down
            args = (_metered(context, args[0]), *args[1:])
        method = getattr(obj, "__wrapped__", obj)  # the sandbox has an `str.format` of its own around it
        name, everything = getattr(obj, "__name__", ""), (getattr(method, "__self__", None), *args, *kwargs.values())
        if name in ("format", "format_map"):
            for text in everything:  # also a width can be a value
                require_narrow_fields(text)
            require_short_fields(str(everything[0]), everything[1:])
        require_no_product(name, everything)
        return sized(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            require_modest((left, right))
            if isinstance(right, int) and right > 64:
                raise TooMuch("it raises a number to a power that is too large")
        elif operator == "*":
            for text, times in ((left, right), (right, left)):
                if isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > LARGEST:
                    raise TooMuch("it repeats a text too often")
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
                raise TooMuch("it computes with numbers that are too large")
        elif operator == "%" and isinstance(left, str):
            require_narrow_fields(left)
            require_short_fields(left, right)
            require_modest(right if isinstance(right, tuple) else (right,))
        made = super().call_binop(context, operator, left, right)
        return weighed(made) if isinstance(made, list | tuple) else sized(made)


class _Metering(NodeTransformer):
    """Puts the meter where a template does work that no hook of the sandbox sees."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "metered", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        pieces = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(pieces, "joined", [], [], None, None, lineno=node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        return self._weighing(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        return self._weighing(node) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        return self._weighing(node)

    def _weighing(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        if all(isinstance(each, nodes.Const) for each in _leaves(node)):
            return node
        return nodes.Filter(node, "weighed", [], [], None, None, lineno=node.lineno)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, "sized", [], [], None, None, lineno=node.lineno)
        return node


def _leaves(node: nodes.Expr) -> Iterator[nodes.Node]:
    for each in node.iter_child_nodes():
        yield from each.iter_child_nodes() if isinstance(each, nodes.Pair) else (each,)


# -- what templates are written for: https://huggingface.co/docs/transformers/chat_templating_writing -----------------


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's own words for training; here they are words."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As templates expect it; jinja2's own escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object = "") -> None:
    raise Refused(str(message))


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    del environment.globals["lipsum"]
    environment.filters |= {
        "tojson": _to_json,
        "joined": lambda pieces: "".join(map(str, pieces)),
        "sized": sized,
        "weighed": weighed,
    }
    environment.filters = {name: _bounded(name, each) for name, each in environment.filters.items()}
    environment.filters["metered"] = _metered
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


_ENVIRONMENT = _environment()
GLOBALS = frozenset(_ENVIRONMENT.globals)
"""Names that a template finds without being given them."""


def line_of(fault: BaseException) -> int | None:
    """Return the line of a template that a fault was found in."""
    line = getattr(fault, "lineno", None)
    return line if isinstance(fault, TemplateError) and isinstance(line, int) else None
