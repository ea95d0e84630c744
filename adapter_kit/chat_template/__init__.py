"""A conversation as one prompt: by the model's own chat template, or in one plain layout.

A chat template is jinja2, as `tokenizer_config.json` and `chat_template.jinja` of a model have it. `read_chat_template`
makes one of a setting and finds its faults then; `prompt_of` renders a task:

    template = read_chat_template("/models/llama", {"enable_thinking": False})
    prompt = prompt_of(task, template)

`source.py` reads settings and files, `template.py` renders, `values.py` makes a template's values of messages,
`analysis.py` finds out which of them it expects, `sandbox.py` runs it, `bounds.py` keeps it in bounds, `beside.py`
keeps it from holding up an event loop (`rendered`), `plain.py` goes without. jinja2 is imported when the first
template is made.
"""

from adapter_kit.chat_template.beside import render_at_once, render_beside, rendered
from adapter_kit.chat_template.bounds import TakesLong
from adapter_kit.chat_template.plain import PlainLayout
from adapter_kit.chat_template.source import TemplateSource, place_of, read_chat_template, read_source
from adapter_kit.chat_template.template import ChatTemplate, Template, prompt_of
from adapter_kit.chat_template.values import plain

__all__ = [
    "ChatTemplate",
    "PlainLayout",
    "TakesLong",
    "Template",
    "TemplateSource",
    "place_of",
    "plain",
    "prompt_of",
    "read_chat_template",
    "read_source",
    "render_at_once",
    "render_beside",
    "rendered",
]
