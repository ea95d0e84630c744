"""Where a chat template comes from, and what is wrong with it: told when settings are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapter_api import ConfigurationError, TaskRequest
from adapter_kit.chat_template import PlainLayout, read_chat_template, read_source

pytestmark = pytest.mark.spec("ORCH-3064-030")

TASK = TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
SOURCE = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"


def config(folder: Path, **fields: Any) -> Path:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def jinja(folder: Path, text: str, name: str = "chat_template.jinja") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_template_may_be_the_setting_itself_or_a_file_or_a_tokenizers_configuration_or_a_models_folder(
    tmp_path: Path,
) -> None:
    path = config(tmp_path, chat_template=SOURCE, bos_token="<s>", eos_token={"content": "</s>"}, unk_token=None)

    assert read_chat_template(SOURCE).render(TASK) == "Hi"
    assert read_chat_template("a\nb").render(TASK) == "a\nb"
    assert read_chat_template(str(path)).render(TASK) == "<s>Hi</s>"
    assert read_chat_template(tmp_path).render(TASK) == "<s>Hi</s>"
    jinja(tmp_path, "new " + SOURCE)
    assert read_chat_template(path).render(TASK) == "new <s>Hi</s>", "the file beside it is the newer form"
    assert read_chat_template(str(tmp_path)).render(TASK) == "new <s>Hi</s>"
    assert read_chat_template(jinja(tmp_path, SOURCE, "own.txt")).render(TASK) == "<s>Hi</s>"
    assert isinstance(read_chat_template(None), PlainLayout)


def test_all_special_tokens_are_there_and_settings_win(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        chat_template="{{ image_token }}{{ pad_token }}{{ bos_token }}{{ sep_token is defined }}",
        pad_token={"content": "<pad>"}, bos_token="<s>", sep_token=None,
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip

    assert read_chat_template(path, {"bos_token": "<b>"}).render(TASK) == "<image><pad><b>False"


@pytest.mark.parametrize("several", [
    [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "{{ tools }}"}],
    {"default": "d", "tool_use": "{{ tools }}"},
])  # fmt: skip
def test_of_several_templates_the_one_for_tools_is_for_tasks_with_tools(tmp_path: Path, several: object) -> None:
    source = read_source(config(tmp_path, chat_template=several))

    assert (source.text, source.tool_use) == ("d", "{{ tools }}")


def test_a_template_for_tools_in_a_folder_of_its_own_is_found(tmp_path: Path) -> None:
    jinja(tmp_path, "d")
    jinja(tmp_path / "additional_chat_templates", "{{ tools }}", "tool_use.jinja")

    assert read_source(tmp_path).tool_use == "{{ tools }}"


@pytest.mark.parametrize("source, said", [
    ("{% for %}", "line 1: "),
    ("\n\n{% if x %}", "line 3: "),
    ("{{ x | nosuchfilter }}", "nosuchfilter"),
    ("{% break %}", "'break' outside loop"),
    ("{% continue %}", "'continue' not properly in loop"),
    ("{% if x %}" * 3000 + "{% endif %}" * 3000, "nested too deep"),
    ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deep"),
    ("{% for a in b %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
    ("{% include 'other.jinja' %}", "wants another file in line 1"),
    ("{% extends 'other.jinja' %}", "wants another file in line 1"),
    ("{% nosuchtag %}", "line 1: "),
])  # fmt: skip
def test_a_template_that_could_never_be_run_is_refused(source: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        read_chat_template(source)

    assert "\n" not in refused.value.message


def _folder(folder: Path) -> Path:
    return folder


FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no JSON": (lambda folder: jinja(folder, "{", "t.json"), "is not JSON"),
    "JSON that is nested too deep": (lambda folder: jinja(folder, "[" * 100_000, "t.json"), "is not JSON"),
    "no object": (lambda folder: jinja(folder, "[]", "t.json"), "holds no JSON object"),
    "no template": (lambda folder: config(folder), "has no chat_template"),
    "a number": (lambda folder: config(folder, chat_template=5), "must be a text, or a list of objects"),
    "a list of texts": (lambda folder: config(folder, chat_template=["a"]), "must be a text, or a list of objects"),
    "entries that are no texts": (
        lambda folder: config(folder, chat_template=[{"name": "default", "template": 5}]),
        "must be a text, or a list of objects",
    ),
    "entries without a name": (
        lambda folder: config(folder, chat_template=[{"template": "x"}]), "must be a text, or a list of objects"
    ),
    "no default": (
        lambda folder: config(folder, chat_template=[{"name": "rag", "template": "x"}]), "that is called default"
    ),
    "a bad template": (lambda folder: config(folder, chat_template="{% for %}"), "not valid jinja2: line 1"),
    "a bad one for tools": (
        lambda folder: config(folder, chat_template={"default": "d", "tool_use": "{% for %}"}), "not valid jinja2"
    ),
    "no file": (lambda folder: folder / "t.jinja", "there is no such file"),
    "no text": (lambda folder: _bytes(folder / "t.jinja"), "is not UTF-8 text"),
    "an empty folder": (_folder, "has neither chat_template.jinja nor tokenizer_config.json"),
    "a device": (lambda folder: Path("/dev/zero"), "it is no file"),
}  # fmt: skip


def _bytes(path: Path) -> Path:
    path.write_bytes(b"\xff")
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_template_that_cannot_be_had_is_told_with_the_reason(tmp_path: Path, fault: str) -> None:
    make, said = FAULTS[fault]

    with pytest.raises(ConfigurationError, match=said):
        read_chat_template(make(tmp_path))


def test_variables_without_a_template_and_reserved_ones_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="need a chat_template"):
        read_chat_template(None, {"enable_thinking": True})
    with pytest.raises(ConfigurationError, match="'messages' is not for settings to choose"):
        read_chat_template("x\n", {"messages": []})


@pytest.mark.spec("ORCH-3064-030")
def test_an_empty_setting_is_no_template_and_not_the_folder_one_happens_to_be_in() -> None:
    with pytest.raises(ConfigurationError, match="the chat template is empty"):
        read_source(" ")
