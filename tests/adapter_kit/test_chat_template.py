"""Messages as one prompt."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from adapter_api import InvalidRequest, Message, TaskRequest, ToolCall, Unsupported
from adapter_kit.chat_template import ChatTemplate, PlainLayout, prompt_of
from tests.adapter_kit import families

pytestmark = pytest.mark.spec("ORCH-3064-028")


def chat(*messages: dict[str, Any], **fields: Any) -> TaskRequest:
    turns = messages or ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"})
    return TaskRequest.parse({"model": "m", "messages": list(turns)} | fields)


def calling(arguments: str, content: str | None = "") -> TaskRequest:
    call = ToolCall(id="c", name="f", arguments=arguments)
    return TaskRequest(model="m", messages=(Message(role="assistant", content=content, tool_calls=(call,)),))


def picture(*parts: str) -> dict[str, Any]:
    """Return a turn of texts, and of images where a part is empty."""
    return {
        "role": "user",
        "content": [{"type": "text", "text": part} if part else {"type": "image", "data": b"x"} for part in parts],
    }


@pytest.mark.parametrize("name", families.PROMPTS)
def test_families_of_models_get_the_prompt_that_they_were_trained_on(name: str) -> None:
    family, case = name.split("/")
    template = ChatTemplate(families.FAMILIES[family], variables=families.TOKENS)

    assert template.render(families.task_of(case)) == families.PROMPTS[name]


@pytest.mark.parametrize("source, prompt", [
    ("{{ messages[0].content }}", "it's <b> & \"c\""),
    ("{{ messages[0] | tojson }}", '{"role": "user", "content": "it\'s <b> & \\"c\\""}'),
    ("{{ {'b': 'é', 'a': 1} | tojson }}", '{"b": "é", "a": 1}'),
    ("{{ {'b': 'é', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}",
     '{"a":1,"b":"\\u00e9"}'),
    ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
    ("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
     "02"),
    ("a{% generation %}{{ messages[0].role }}{% endgeneration %}b", "auserb"),
    ("{{ bos_token }}{{ eos_token + '.' }}", "."),
    ("{{ strftime_now('%Y') | length }}", "4"),
    ("{{ tools is none }}{{ add_generation_prompt }}{{ documents is defined }}", "TrueTrueFalse"),
    ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
    ("{{ nothing }}{{ nothing.at_all if nothing else 'x' }}", "x"),
    ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.length %}{% endfor %}{{ ns.n }}",
     "1"),
    ("{% for m in messages recursive %}{{ m.role ~ loop.last ~ loop.depth }}{% endfor %}", "userTrue1"),
    ("{% set x %}a{{ 1 }}{% endset %}{{ x ~ 'b' ~ 1.5 ~ none }}", "a1b1.5None"),
    ("{{ '%s of %d' % ('x', 3) }}{{ 'a' * 3 }}{{ 2 ** 8 }}{{ '{:>3}'.format(1) }}", "x of 3aaa256  1"),
])  # fmt: skip
def test_a_template_finds_what_it_was_written_for(source: str, prompt: str) -> None:
    assert ChatTemplate(source).render(chat({"role": "user", "content": 'it\'s <b> & "c"'})) == prompt


@pytest.mark.parametrize("arguments, rendered", [
    ('{"b": "é", "a": [1, 2.5, null]}', '{"b": "é", "a": [1, 2.5, null]}'),
    ('{"a": ', '"{\\"a\\": "'),
    ('{"a": NaN}', '"{\\"a\\": NaN}"'),
    ('{"a": 1e999}', '"{\\"a\\": 1e999}"'),
    ("[" * 100_000, json.dumps("[" * 100_000)),
    ("9" * 5000, '"' + "9" * 5000 + '"'),
    ("", "{}"),
    (" ", "{}"),
    ("3", "3"),
])  # fmt: skip
def test_arguments_are_the_objects_that_their_json_says_and_a_text_where_it_is_no_json(
    arguments: str, rendered: str
) -> None:
    template = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments | tojson }}")

    assert template.render(calling(arguments)) == rendered


@pytest.mark.parametrize("arguments, rendered", [('{"a": "<é"}', '> {"a": "<é"}'), ("", "> {}"), ("oops", "> oops")])
def test_arguments_are_texts_for_a_template_that_adds_them_to_one(arguments: str, rendered: str) -> None:
    template = ChatTemplate("{{ '> ' + messages[0].tool_calls[0].function.arguments }}")

    assert template.render(calling(arguments)) == rendered
    with pytest.raises(InvalidRequest):
        ChatTemplate("{{ '> ' + messages[0].tool_calls }}").render(calling(arguments))


def test_a_message_has_the_fields_that_it_was_given_and_no_others() -> None:
    template = ChatTemplate("{{ messages | tojson }}{# tool_calls #}")
    tool = {"role": "tool", "content": "4", "tool_call_id": "c", "name": "f"}

    assert json.loads(template.render(chat({"role": "user", "content": "Hi"}, tool))) == [
        {"role": "user", "content": "Hi"},
        tool,
    ]


@pytest.mark.parametrize("source, prompt", [
    ("{{ messages[0].content is none }}{{ messages[0].tool_calls | length }}", "True1"),
    ("{{ messages[0]['content'] == none }}{{ messages[0].tool_calls | length }}", "True1"),
    ("[{{ messages[0].content }}]{{ messages[0].tool_calls | length }}", "[]1"),
    ("{% for p in messages[0].content %}{{ p }}{% endfor %}{{ messages[0].tool_calls | length }}", "1"),
])  # fmt: skip
def test_content_that_is_null_is_null_for_those_who_ask_and_empty_for_others(source: str, prompt: str) -> None:
    assert ChatTemplate(source).render(calling("{}", content=None)) == prompt


@pytest.mark.parametrize("asks", [
    "{% if call.id | length != 9 %}{{ raise_exception('nine!') }}{% endif %}",
    "{% if not call['id'] is defined or (call['id']|length) != 9 %}{{ raise_exception('nine!') }}{% endif %}",
    "{% if call.id | count == 9 %}{% else %}{{ raise_exception('nine!') }}{% endif %}",
])  # fmt: skip
@pytest.mark.parametrize("id", ["call_0123456789abcdef01234567", "chatcmpl-tool-1", "1", "aaaa-bbbb", "abc123XYZ"])
def test_a_template_that_counts_the_letters_of_a_calls_id_gets_as_many(asks: str, id: str) -> None:
    source = (
        "{% for m in messages %}{% for call in m.tool_calls or [] %}" + asks + "<{{ call.id }}>{% endfor %}"
        "{% if m.role == 'tool' %}[{{ m.tool_call_id }}]{% endif %}{% endfor %}"
    )
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": id, "name": "f", "arguments": "{}"}]},
        {"role": "tool", "tool_call_id": id, "content": "5"},
    ]

    prompt = ChatTemplate(source).render(TaskRequest.parse({"model": "m", "messages": messages}))

    told = prompt[1:10]
    assert prompt == f"<{told}>[{told}]"
    assert told.isalnum()
    assert (told == id) == (id == "abc123XYZ"), "an id that will do stays"


def test_ids_of_calls_are_left_alone_where_a_template_does_not_count_their_letters() -> None:
    source = "{% for m in messages %}{% for call in m.tool_calls or [] %}<{{ call.id }}>{% endfor %}{% endfor %}"
    call = {"id": "call_0123456789abcdef01234567", "name": "f", "arguments": "{}"}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}]

    prompt = ChatTemplate(source).render(TaskRequest.parse({"model": "m", "messages": messages}))

    assert prompt == f"<{call['id']}>"


def test_tools_reach_the_template_as_they_were_given_and_may_have_one_of_their_own() -> None:
    tools = [{"name": "f", "description": "d", "parameters": {"type": "object"}}, {"name": "g"}]
    both = ChatTemplate("default", tool_use="{{ tools | tojson }}")

    rendered = json.loads(both.render(chat(tools=tools)))

    assert rendered == [{"type": "function", "function": tool} for tool in tools]
    assert both.render(chat()) == "default"
    assert both.render(chat(tools=tools, tool_choice="none")) == "default"


@pytest.mark.parametrize("fields, what", [
    ({"tools": [{"name": "f"}]}, "no place for `tools`"),
    ({"tools": [{"name": "f"}], "tool_choice": "required"}, "cannot make"),
    ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "f", "arguments": ""}]}]},
     "no place for messages with tool_calls"),
    ({"messages": [picture("what?", "")]}, "no place for images"),
])  # fmt: skip
def test_what_a_template_has_no_place_for_is_refused_by_name(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(Unsupported, match=what):
        ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").render(chat(**fields))


def test_variables_come_from_settings_and_the_tasks_own_win() -> None:
    template = ChatTemplate(
        "{{ enable_thinking }}{{ more.deep[0] }}{{ add_generation_prompt }}",
        variables={"enable_thinking": True, "more": {"deep": [1]}},
    )

    assert template.render(chat()) == "True1True"
    wanted = {"enable_thinking": False, "add_generation_prompt": False}
    assert template.render(chat(chat_template_kwargs=wanted)) == "False1False"


@pytest.mark.parametrize("name", ["messages", "tools", "raise_exception", "chat_template"])
def test_a_task_cannot_choose_what_is_not_its_own(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}' is not for a task to choose"):
        ChatTemplate("x").render(chat(chat_template_kwargs={name: 1}))


# -- images -----------------------------------------------------------------------------------------------------------

PARTS = (
    "{% for m in messages %}{% for p in m.content %}"
    "{{ p.text if p.type == 'text' else '<image>' }}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize("source", [
    PARTS,
    PARTS.replace("p.type == 'text'", "p['type'] == 'text'").replace("m.content", "m['content']"),
    "{% for m in messages %}{% set c = m.content %}{% for p in c %}{{ p.text or '<image>' }}{% endfor %}{% endfor %}",
    "{% macro f(c) %}{% for p in c %}{{ p.text or '<image>' }}{% endfor %}{% endmacro %}"
    "{% for m in messages %}{{ f(m.content) }}{% endfor %}",
    "{% macro f(c) %}{% if c is string %}{{ c }}{% else %}{% for p in c %}{{ p.text or '<image>' }}{% endfor %}"
    "{% endif %}{% endmacro %}{% for m in messages %}{{ f(c=m.content) }}{% endfor %}",
    "{% for m in messages %}{% for p in m.content if p.type in ['image_url', 'text'] %}"
    "{{ p.text or '<image>' }}{% endfor %}{% endfor %}",
])  # fmt: skip
def test_images_are_marked_in_their_place_and_order(source: str) -> None:
    task = chat(picture("a", "", "b"), picture("", "", "c"), {"role": "user", "content": "d"})

    assert ChatTemplate(source).render(task) == "a<image>b<image><image>cd"


@pytest.mark.parametrize("source", [
    "{{ messages[0].content }}",
    "{% for p in messages[0].content %}{{ p.text }}{% endfor %}",
    "{% for p in messages[0].content %}{{ p.text if p.type == 'text' }}{% endfor %}{{ messages[1].content }}",
    PARTS.replace("m.content", "m.content if loop.first"),
    PARTS.replace("'<image>'", "('<image>' if m.role == 'assistant' else '')"),
])  # fmt: skip
def test_an_image_that_would_be_dropped_is_refused(source: str) -> None:
    with pytest.raises(Unsupported, match="no place for images"):
        ChatTemplate(source).render(chat(picture("a", ""), picture("", "b")))


def test_one_image_of_many_that_would_be_dropped_is_found() -> None:
    source = PARTS.replace("'<image>'", "('<image>' if loop.index < 4 else '')")
    turns = [picture("a", "", "") for _ in range(20)]

    assert ChatTemplate(source).render(chat(*turns)).count("<image>") == 40
    with pytest.raises(Unsupported, match="no place for images"):
        ChatTemplate(source).render(chat(*turns, picture("a", "", "", "")))


@pytest.mark.long
def test_images_beyond_what_can_be_looked_at_are_refused_and_not_dropped() -> None:
    turns = [picture("a", "") for _ in range(1500)]

    with pytest.raises(InvalidRequest, match="too many images"):
        ChatTemplate(PARTS).render(chat(*turns))


def test_text_comes_as_text_to_those_who_take_it_and_as_parts_to_those_who_want_them() -> None:
    several = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}

    assert ChatTemplate("{{ messages[0].content }}").render(chat(several)) == "ab"
    either = (
        "{% set c = messages[0].content %}{% if c is string %}{{ c }}{% else %}"
        "{% for p in c %}({{ p.text }}){% endfor %}{% endif %}"
    )
    assert ChatTemplate(either).render(chat(several)) == "(a)(b)"
    assert ChatTemplate(either).render(chat({"role": "user", "content": [{"type": "text", "text": "a"}]})) == "a"


def test_a_template_that_goes_through_the_parts_of_one_message_may_print_another_as_text() -> None:
    source = (
        "{{ messages[0].content }}|{{ '<' + messages[0].content + '>' }}|{{ messages[0].content | trim | upper }}|"
        "{% for p in messages[1].content %}{{ p.text or '<image>' }}{% endfor %}"
    )

    task = chat({"role": "system", "content": "Be brief."}, picture("a", ""))

    assert ChatTemplate(source).render(task) == "Be brief.|<Be brief.>|BE BRIEF.|a<image>"


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, shown", [
    ("'roles must alternate'", "refuses these messages: roles must alternate"),
    ("'roles must alternate: ' ~ messages[1].content", "refuses these messages: roles must alternate: …"),
    ("'roles must\n\u202ealternate'", "refuses these messages: roles must alternate"),
    ("messages[1].content", "does not take these messages"),
    ("'no ' ~ messages[1].content", "does not take these messages"),
])  # fmt: skip
def test_a_refusal_is_told_in_the_templates_own_words_and_never_in_those_of_a_message(words: str, shown: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ChatTemplate("{{ raise_exception(" + words + ") }}").render(chat())

    assert refused.value.message.endswith(shown)
    assert "Hello" not in refused.value.message


@pytest.mark.spec("ORCH-3064-012")
@pytest.mark.parametrize("source", [
    "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ messages.append(1) }}",
    "{{ 1 / 0 }}",
    "{{ range(10000000) }}",
    "{{ messages[0].content + 1 }}",
    "{{ undefined_function() }}",
    "",
    '{{ "\\ud800" }}',
])  # fmt: skip
def test_a_template_cannot_leave_its_sandbox_and_what_it_cannot_render_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest, match="the chat template of model 'm'"):
        ChatTemplate(source).render(chat())


# -- without a template -----------------------------------------------------------------------------------------------


def test_the_plain_layout_has_a_block_for_each_message_and_invites_the_answer() -> None:
    task = chat({"role": "system", "content": "Be brief."}, picture("What is ", "", "this?"))

    assert PlainLayout().render(task) == "system: Be brief.\n\nuser: What is this?\n\nassistant:"
    assert prompt_of(task) == PlainLayout().render(task)


@pytest.mark.parametrize("fields", [
    {"tools": [{"name": "f"}]},
    {"tool_choice": "auto"},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "f", "arguments": ""}]}]},
])  # fmt: skip
def test_the_plain_layout_refuses_what_only_a_template_can_say(fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="need a chat_template to become one"):
        PlainLayout().render(chat(**fields))


def test_a_prompt_is_sent_as_it_is() -> None:
    assert prompt_of(TaskRequest(model="m", prompt="  as it is\n"), ChatTemplate("x")) == "  as it is\n"


def test_jinja2_is_needed_by_those_only_who_have_a_template_and_its_absence_says_what_to_do() -> None:
    program = """if True:
        import sys
        sys.modules["jinja2"] = None
        from adapter_api import ConfigurationError, TaskRequest
        from adapter_kit.chat_template import prompt_of, read_chat_template
        assert prompt_of(TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "a"}]}))
        try:
            read_chat_template("{{ messages }}")
        except ConfigurationError as exc:
            sys.exit(exc.message)
        """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    command = f"{shlex.quote(sys.executable)} -m pip install 'jinja2>=3.1,<4'"
    assert ran.stderr.strip() == f"a chat template needs jinja2, which is not installed: run `{command}`"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_template_finds_what_the_model_thought_in_an_earlier_turn(name: str) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m." + name + " or '-' }}|{{ m.content }}\n{% endfor %}")
    asked = chat({"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning": "Hm."})

    assert template.render(asked) == "-|a\nHm.|b\n"
