"""Prompts that end inside their last message, or without an invitation to answer."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import End, InvalidRequest, TaskRequest, Token
from adapter_api.testing import reasoning_of, text_of
from adapter_kit.answers import reader_for
from adapter_kit.chat_template import ChatTemplate, PlainLayout
from tests.adapter_kit import families

pytestmark = pytest.mark.spec("ORCH-3076-011")

ASKED: dict[str, Any] = {"role": "user", "content": "Hello"}
ALWAYS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</e>{% endfor %}<assistant>"
TRIMMED = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}[/]{% endfor %}"
WITHOUT_THOUGHTS = "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}</e>{% endfor %}"
IN_PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% else %}<image>{% endif %}{% endfor %}</e>{% endfor %}"
)


def rendered(source: str, said: Any, **fields: Any) -> str:
    messages = [ASKED, {"role": "assistant", "content": said}]
    task = TaskRequest.parse({"model": "m", "messages": messages, **fields})
    return ChatTemplate(source, variables=families.TOKENS).render(task)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("said", ["I say", "I say: é 日本 🙂 & <b>", "Hello"])
def test_the_prompt_of_a_family_ends_with_the_message_that_is_continued(family: str, said: str) -> None:
    source = families.FAMILIES[family]

    prompt = rendered(source, said, continue_final_message=True)

    assert prompt.endswith(said)
    closed = rendered(source, said, add_generation_prompt=False)
    assert closed.startswith(prompt)
    assert len(closed) > len(prompt)


# What `transformers` 5.24 makes of them.
@pytest.mark.parametrize(
    "source, said, prompt",
    [
        (ALWAYS, "I say ", "<user>Hello</e><assistant>I say "),
        (ALWAYS, "a\n\n", "<user>Hello</e><assistant>a\n\n"),
        (TRIMMED, "I say ", "[user]Hello[/][assistant]I say"),
        (WITHOUT_THOUGHTS, "Yes and", "<user>Hello</e><assistant>Yes and"),
        (IN_PARTS, [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
         "<user>Hello</e><assistant>one two"),
    ],
)  # fmt: skip
def test_templates_of_every_kind_leave_the_end_open(source: str, said: Any, prompt: str) -> None:
    assert rendered(source, said, continue_final_message=True) == prompt


def test_a_message_that_ends_with_an_image_cannot_be_continued() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image", "data": b"x"}]

    with pytest.raises(InvalidRequest, match="does not end with a text"):
        rendered(IN_PARTS, parts, continue_final_message=True)
    assert rendered(IN_PARTS, parts[::-1], continue_final_message=True).endswith("<assistant><image>one")


def test_a_template_that_takes_thoughts_out_of_the_message_is_told_so() -> None:
    with pytest.raises(InvalidRequest, match="does not show the last message as it is"):
        rendered(WITHOUT_THOUGHTS, "<think>x</think>Yes and", continue_final_message=True)


@pytest.mark.parametrize(
    "source", ["{{ messages[0].content }}", "{% for m in messages %}{{ m.content | upper }}{% endfor %}"]
)
def test_a_template_that_does_not_show_the_message_as_it_is_is_told_so(source: str) -> None:
    with pytest.raises(InvalidRequest, match="does not show the last message as it is"):
        rendered(source, "I say", continue_final_message=True)


def test_a_message_that_has_the_mark_itself_is_continued_all_the_same() -> None:
    said = "(here the last message goes on) and (here the last message goes on)"

    assert rendered(ALWAYS, said, continue_final_message=True) == f"<user>Hello</e><assistant>{said}"


@pytest.mark.parametrize(
    "fields, told",
    [({}, "True"), ({"add_generation_prompt": True}, "True"), ({"add_generation_prompt": False}, "False"),
     ({"chat_template_kwargs": {"add_generation_prompt": False}}, "False"),
     ({"chat_template_kwargs": {"add_generation_prompt": False}, "add_generation_prompt": True}, "True")],
)  # fmt: skip
def test_the_invitation_is_the_templates_to_write_and_the_tasks_to_choose(fields: dict[str, Any], told: str) -> None:
    assert rendered("{{ add_generation_prompt }}", "I say", **fields) == told


@pytest.mark.parametrize(
    "fields, end",
    [({}, "assistant: I say\n\nassistant:"), ({"continue_final_message": True}, "assistant: I say"),
     ({"add_generation_prompt": False}, "assistant: I say")],
)  # fmt: skip
def test_the_plain_layout_leaves_its_end_open_too(fields: dict[str, Any], end: str) -> None:
    messages = [ASKED, {"role": "assistant", "content": "I say"}]
    task = TaskRequest.parse({"model": "m", "messages": messages, **fields})

    assert PlainLayout().render(task) == f"user: Hello\n\n{end}"


@pytest.mark.parametrize(
    "said, thoughts, text",
    [("<think>so", " it is", "Yes"), ("<think>", " it is", "Yes"), ("<think>a</think>b", "", " it is</think>Yes"),
     ("b", "", " it is</think>Yes")],
)  # fmt: skip
def test_who_is_continued_within_a_thought_thinks_on(said: str, thoughts: str, text: str) -> None:
    messages = [ASKED, {"role": "assistant", "content": said}]
    task = TaskRequest.parse({"model": "m", "messages": messages, "continue_final_message": True})
    prompt = ChatTemplate(ALWAYS).render(task)
    reader = reader_for(task, prompt, calls="none", thoughts="think")
    assert reader is not None

    events = reader.read([Token(0, " it is"), Token(1, "</think>"), Token(2, "Yes"), End(finish_reason="stop")])

    assert reasoning_of(events) == thoughts
    assert text_of(events) == text
