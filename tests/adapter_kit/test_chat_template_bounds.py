"""A chat template is a stranger's program: whatever it does, it ends, and in bounds."""

from __future__ import annotations

import tracemalloc

import pytest

from adapter_api import InvalidRequest, Message, TaskRequest
from adapter_kit.chat_template import ChatTemplate, bounds

pytestmark = pytest.mark.spec("ORCH-3064-029")

TASK = TaskRequest(model="m", messages=(Message(role="user", content="hi"),))
GROWING = (
    "{% set ns = namespace(x='aaaaaaaa', l=['a']) %}{% for i in range(60) %}{% set ns.x = WHAT %}{% endfor %}{{ ns.x }}"
)
NESTING = "{% set ns = namespace(x=WHAT) %}{% for i in range(60) %}{% set ns.x = NEXT %}{% endfor %}"

ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that speak": "{% for i in range(99999) %}{% for j in range(99999) %}words{% endfor %}{% endfor %}",
    "a macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that branches": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a recursive loop's items": "{% for i in [1] recursive %}{{ loop(range(99999)) if loop.depth < 9 }}{% endfor %}",
    "filters": "{% for i in range(9999) %}{{ range(99999) | map('string') | list | length }}{% endfor %}",
    "search": "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% set y = ('b' + x) in x %}{% endfor %}",
}
ENORMOUS = {
    "plus": GROWING.replace("WHAT", "ns.x + ns.x"),
    "joined by a tilde": GROWING.replace("WHAT", "ns.x ~ ns.x"),
    "join": GROWING.replace("WHAT", "[ns.x, ns.x] | join"),
    "percent": GROWING.replace("WHAT", "'%s%s' % (ns.x, ns.x)"),
    "format": GROWING.replace("WHAT", "'{0}{0}'.format(ns.x)"),
    "replace": GROWING.replace("WHAT", "ns.x.replace('a', 'aa')"),
    "a block": GROWING.replace(
        "{% set ns.x = WHAT %}", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"
    ),
    "lists": NESTING.replace("WHAT", "['a']").replace("NEXT", "[ns.x, ns.x]") + "{{ ns.x }}",
    "tuples": NESTING.replace("WHAT", "('a', i)").replace("NEXT", "(ns.x, ns.x)") + "{{ ns.x | tojson }}",
    "objects": NESTING.replace("WHAT", "{}").replace("NEXT", "{'a': ns.x, 'b': ns.x}") + "{{ ns.x }}",
    "lists compared": NESTING.replace("WHAT", "['a']").replace("NEXT", "[ns.x, ns.x]") + "{{ ns.x == [ns.x] }}",
    "times": "{{ 'x' * 10000000000 }}",
    "times a list": "{{ [1] * 1000000000 }}",
    "a power": "{{ 10 ** 100000000 }}",
    "a product": GROWING.replace("'aaaaaaaa'", "10").replace("WHAT", "ns.x * ns.x"),
    "a width": "{{ 'x' | center(10000000000) }}",
    "a method's width": "{{ 'x'.ljust(10000000000) }}",
    "a field's width": "{{ '%10000000000d' % 1 }}",
    "a field's width as a value": "{{ '%*d' % (10000000000, 1) }}",
    "a format's width": "{{ '{:>10000000000}'.format(1) }}",
    "a format's width as a value": "{{ '{:>{w}}'.format(1, w='10000000000') }}",
    "many fields": "{{ ('%(a)s' * 100000) % {'a': 'a' * 1000000} }}",
    "an indent": "{{ ('a\\n' * 100000) | indent('a' * 100000) }}",
    "a separator": "{{ range(99999) | join('a' * 1000000) }}",
    "tabs": "{{ ('\\t' * 10000).expandtabs(100000) }}",
    "JSON's indent": "{{ [[1]] | tojson(indent=1000000000) }}",
    "a range": "{{ range(1000000000) | list }}",
    "a prompt": "{% for i in range(9999) %}{{ 'a' * 10000 }}{% endfor %}",
}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "STEPS", 100_000)
    monkeypatch.setattr(bounds, "CPU_S", 0.5)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_an_end_is_stopped(source: str) -> None:
    with pytest.raises(InvalidRequest, match="the chat template of model 'm' does not take these messages"):
        ChatTemplate(source).render(TASK)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("source", ENORMOUS.values(), ids=ENORMOUS)
def test_a_template_that_makes_something_enormous_is_stopped_before_it_is_there(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="the chat template of model 'm' does not take these messages"):
            ChatTemplate(source).render(TASK)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 256 << 20


def test_long_conversations_stay_within_the_bounds() -> None:
    turns = [Message(role=("user", "assistant")[n % 2], content="word " * 200) for n in range(2000)]
    source = "{% for m in messages %}{{ '<' ~ m.role ~ '>' + m.content | trim ~ '\\n' }}{% endfor %}"

    rendered = ChatTemplate(source).render(TaskRequest(model="m", messages=tuple(turns)))

    assert len(rendered) > 2000 * 1000
