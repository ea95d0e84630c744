"""Runs chat templates: jinja2 with what they are written for, and in bounds, since each is a stranger's program.

The sandbox keeps a template from the host's objects, files and network. Its work is metered: each turn of a loop, each
call, filter and operator is a step, and what they make costs steps by its size. Bounded are the steps, the processor
time of a render, and the size of the prompt and of each value on the way. Not bounded is what a single step does inside
Python before its size is known, such as one `sort` or one `replace` on a text as large as the bounds allow: that ends,
after seconds at worst. A render holds its thread for as long as it runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from time import thread_time
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

STEPS = 500_000
CPU_S = 2.0
LARGEST = 1 << 24
"""Characters of a prompt, and characters or items of any value on the way."""
_LARGEST_NUMBER = 1 << 20
"""In arguments that a size could come from, as in `center(width)`."""
_MULTIPLIERS = frozenset({"indent", "replace", "join", "translate", "expandtabs"})
"""What makes of two texts one that can be as long as both multiplied."""
_NAMED_NUMBER = re.compile(r"\d{6,}")


class Refused(Exception):
    """The template itself refuses what it was given, by `raise_exception`."""


class TooMuch(Exception):
    """The template does more, or makes more, than it may."""


class Meter:
    """Counts what a template does, in one render or in several that belong together."""

    __slots__ = ("_ends", "_left", "_steps")

    def __init__(self, renders: int = 1) -> None:
        self._left = self._steps = STEPS * renders
        self._ends = thread_time() + CPU_S

    def step(self, cost: int = 1) -> None:
        self._left -= cost
        if self._left < 0:
            raise TooMuch(f"it takes more than {self._steps:,} steps")
        if thread_time() > self._ends:
            raise TooMuch(f"it computes for more than {CPU_S:g} s")


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


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
    token = _METER.set(meter)
    try:
        pieces, length = [], 0
        for piece in template.generate(values):
            length += len(piece)
            if length > LARGEST:
                raise TooMuch(f"it makes a prompt of more than {LARGEST:,} characters")
            meter.step()
            pieces.append(piece)
        return "".join(pieces)
    finally:
        _METER.reset(token)


# -- bounds -----------------------------------------------------------------------------------------------------------


def _step(cost: int = 1) -> None:
    meter = _METER.get()
    if meter is not None:
        meter.step(cost)


def _sized(value: Any) -> Any:
    """Return `value`, which was just made; small enough, and paid for."""
    if isinstance(value, str | list | tuple | dict):
        size = len(value)
        if size > LARGEST:
            raise TooMuch(f"it makes a value of more than {LARGEST:,} characters or items")
        _step(1 + (size >> 6))
    else:
        _step()
    return value


def _weighed(value: Any) -> Any:
    """Return a container that was just made, paid for with all that it holds, as often as it holds it.

    Otherwise a list that holds another one twice, and is itself held twice, … would be of a size that no text has.
    """
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | tuple | dict):
            _step(1 + len(each))
            waiting += each.values() if isinstance(each, dict) else each
        elif isinstance(each, str):
            _step(len(each) >> 6)
    return value


def _modest(arguments: Iterable[Any]) -> None:
    """Refuse arguments that could be the size of something enormous, as numbers or in a text's format."""
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > _LARGEST_NUMBER:
            raise TooMuch("it calls something with a number that is too large")


def _no_product(name: str, arguments: Iterable[Any]) -> None:
    if name in _MULTIPLIERS:
        *_, second, first = 1, 1, *sorted(map(_size, arguments))
        if first * second > 4 * LARGEST:
            raise TooMuch("it puts a long text into another one too often")


def _size(argument: Any) -> int:
    """Return how long an argument is; of what is made while it is read, how long it may be at most."""
    if isinstance(argument, str | list | tuple | dict | range):
        return len(argument)
    return MAX_RANGE if isinstance(argument, Iterator) else argument if isinstance(argument, int) else 1


def _no_long_fields(layout: str, values: Any) -> None:
    """Refuse a layout with so many fields that long values in them make something enormous."""
    several = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else (values,)
    fields = layout.count("%") + layout.count("{")
    if fields * max((len(each) for each in several if isinstance(each, str)), default=1) > 4 * LARGEST:
        raise TooMuch("it puts a long text into another one too often")


def _no_wide_fields(layout: Any) -> None:
    if isinstance(layout, str) and _NAMED_NUMBER.search(layout):
        raise TooMuch("it lays a text out with a number that is too large")


@pass_context  # which keeps the compiler from computing it in advance
def _metered(context: Any, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _step()
        yield item


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that is paid for."""

    @wraps(function)  # with the marks of jinja2, which say what the filter is passed
    def filtered(*args: Any, **kwargs: Any) -> Any:
        _modest(args)
        _modest(kwargs.values())
        if name == "format":
            _no_wide_fields(args[0])
            _no_long_fields(str(args[0]), (*args[1:], *kwargs.values()))
        _no_product(name, (*args, *kwargs.values()))
        return _sized(function(*args, **kwargs))

    return filtered


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        _step()
        _modest(args)
        _modest(kwargs.values())
        if isinstance(obj, LoopContext) and args:  # a recursive loop goes a level down
            args = (_metered(context, args[0]), *args[1:])
        method = getattr(obj, "__wrapped__", obj)  # the sandbox has an `str.format` of its own around it
        name, everything = getattr(obj, "__name__", ""), (getattr(method, "__self__", None), *args, *kwargs.values())
        if name in ("format", "format_map"):
            for text in everything:  # also a width can be a value
                _no_wide_fields(text)
            _no_long_fields(str(everything[0]), everything[1:])
        _no_product(name, everything)
        return _sized(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            _modest((left, right))
            if isinstance(right, int) and right > 64:
                raise TooMuch("it raises a number to a power that is too large")
        elif operator == "*":
            for text, times in ((left, right), (right, left)):
                if isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > LARGEST:
                    raise TooMuch("it repeats a text too often")
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
                raise TooMuch("it computes with numbers that are too large")
        elif operator == "%" and isinstance(left, str):
            _no_wide_fields(left)
            _no_long_fields(left, right)
            _modest(right if isinstance(right, tuple) else (right,))
        made = super().call_binop(context, operator, left, right)
        return _weighed(made) if isinstance(made, list | tuple) else _sized(made)


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
        "sized": _sized,
        "weighed": _weighed,
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
