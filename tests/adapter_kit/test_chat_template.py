"""Messages as one prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapter_api import ConfigurationError, InvalidRequest, Message, TaskRequest, ToolCall
from adapter_kit.chat_template import ChatTemplate

ASKED = TaskRequest(
    model="m", messages=(Message(role="system", content="Be brief."), Message(role="user", content="Hello"))
)


@pytest.mark.spec("ORCH-3064-012")
def test_a_tokenizers_template_is_used_with_its_tokens(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    source = (
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    config.write_text(json.dumps({"chat_template": source, "bos_token": "<s>", "eos_token": {"content": "</s>"}}))

    assert ChatTemplate.from_file(config).render(ASKED) == "<s><|system|>Be brief.</s><|user|>Hello</s><|assistant|>"


def test_a_template_finds_what_it_was_written_for() -> None:
    source = (
        "{% for m in messages %}{% if m.tool_calls %}"
        "{{ m.tool_calls[0].function.arguments | tojson(indent=1, sort_keys=true) }}{% break %}{% endif %}{% endfor %}"
        "{{ strftime_now('%Y') | length }}"
    )
    call = ToolCall(id="c", name="f", arguments='{"b": "é", "a": 1}')
    messages = (*(ASKED.messages or ()), Message(role="assistant", content="", tool_calls=(call,)))

    rendered = ChatTemplate(source).render(ASKED.model_copy(update={"messages": messages}))

    assert rendered == '{\n "a": 1,\n "b": "é"\n}4'


def test_arguments_that_are_no_json_are_passed_on_as_they_are() -> None:
    call = ToolCall(id="c", name="f", arguments="{")
    messages = (Message(role="assistant", content="", tool_calls=(call,)),)

    rendered = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments }}").render(
        ASKED.model_copy(update={"messages": messages})
    )

    assert rendered == "{"


def test_the_default_one_of_several_templates_is_used(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    templates = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    config.write_text(json.dumps({"chat_template": templates}))

    assert ChatTemplate.from_file(config).render(ASKED) == "yes"


@pytest.mark.spec("ORCH-3064-012")
@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('roles must alternate: Hello') }}",
        "{{ 1 / 0 }}",
        "{{ range(10000000) }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox_and_its_words_are_not_repeated(source: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ChatTemplate(source).render(ASKED)

    assert "Hello" not in refused.value.message


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("t.json", "{", "not JSON"),
        ("t.json", "{}", "no chat_template"),
        ("t.jinja", "{% for %}", "not valid jinja2"),
        ("t.jinja", None, "cannot read"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigurationError, match=said):
        ChatTemplate.from_file(path)
