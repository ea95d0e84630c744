"""Messages as one text."""

from __future__ import annotations

import pytest

from adapter_api import ConfigurationError, InvalidRequest, Unsupported
from tests.triton_adapter.dialects.models import encode, schema, sent, task
from triton_adapter.dialects import prompt_of
from triton_adapter.settings import ModelOverride

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image", "data": b"x"}]},
]


def test_a_prompt_is_sent_as_it_is() -> None:
    assert prompt_of(task(prompt="  as it is\n")) == "  as it is\n"


def test_messages_become_blocks_and_an_invitation_to_answer() -> None:
    assert prompt_of(task(messages=MESSAGES)) == "system: Be brief.\n\nuser: What is this?\n\nassistant:"


def test_a_chat_template_renders_messages_its_own_way() -> None:
    template = (
        "{% for message in messages %}<{{ message.role }}>"
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )

    encoded = encode(schema("vllm"), ModelOverride(chat_template=template), messages=MESSAGES)

    assert sent(encoded)["text_input"] == "<system>Be brief.<user>What is this?<image><assistant>"


def test_messages_that_a_template_refuses_are_the_tasks_fault() -> None:
    with pytest.raises(InvalidRequest, match="refuses these messages: roles must alternate"):
        prompt_of(task(messages=MESSAGES), "{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize("template", ["{% for %}", "{{ messages.nothing.at_all }}", "{{ ''.__class__.__mro__ }}"])
def test_a_broken_or_prying_template_is_a_fault_of_the_settings(template: str) -> None:
    with pytest.raises(ConfigurationError, match="chat_template"):
        prompt_of(task(messages=MESSAGES), template)


def test_tool_calls_need_a_template() -> None:
    call = {"id": "1", "name": "f", "arguments": "{}"}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]

    with pytest.raises(Unsupported, match="tool_calls need a chat_template"):
        prompt_of(task(messages=messages))
    assert prompt_of(task(messages=messages), "{{ messages[0].tool_calls[0].name }}") == "f"
