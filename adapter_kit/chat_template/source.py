"""Where a chat template comes from: a text, a file, or the folder of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from adapter_api import ConfigurationError
from adapter_kit.chat_template.plain import PlainLayout
from adapter_kit.chat_template.template import ChatTemplate, Template

_LARGEST_FILE = 64 << 20
_A_TEXT = re.compile(r"\{[{%#]|\n")
_CONFIG, _BESIDE, _FOR_TOOLS = (
    "tokenizer_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
)


class TemplateSource(msgspec.Struct, frozen=True):
    """A template, the one for tasks with tools where there is another, and the special tokens of the tokenizer."""

    text: str
    tool_use: str | None = None
    tokens: dict[str, str] = {}


def read_chat_template(setting: str | Path | None, variables: Mapping[str, Any] | None = None) -> Template:
    """Return the template that a setting names; the plain layout for `None`.

    Args:
        setting: The template itself, or where it is: a jinja2 file, a `tokenizer_config.json`, a model's folder.
        variables: What the template finds besides, as `enable_thinking`; wins over the tokenizer's special tokens.

    Raises:
        ConfigurationError: It cannot be read or is no template, jinja2 is not installed, or there are variables and no
            template for them.
    """
    if setting is None:
        if variables:
            raise ConfigurationError("chat_template_kwargs need a chat_template that reads them")
        return PlainLayout()
    source = read_source(setting)
    return ChatTemplate(source.text, tool_use=source.tool_use, variables={**source.tokens, **(variables or {})})


def place_of(setting: str | Path) -> str | None:
    """Return where the template is that a setting names; `None` where it is the setting itself."""
    return None if isinstance(setting, str) and _A_TEXT.search(setting) else str(setting)


def read_source(setting: str | Path) -> TemplateSource:
    """Return the template that a setting names, as it is written; raises `ConfigurationError` when it cannot."""
    if isinstance(setting, str) and place_of(setting) is None:
        return TemplateSource(setting)
    if not str(setting).strip():
        raise ConfigurationError("the chat template is empty: leave the setting out, or name a template")
    path = Path(setting).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if path.suffix == ".json":
        return _of_config(path)
    return TemplateSource(_read(path), _read_optional(path.parent / _FOR_TOOLS), _tokens_beside(path))


def _of_folder(folder: Path) -> TemplateSource:
    if (folder / _BESIDE).is_file():
        return read_source(folder / _BESIDE)
    if (folder / _CONFIG).is_file():
        return _of_config(folder / _CONFIG)
    raise ConfigurationError(f"the folder {str(folder)!r} has neither {_BESIDE} nor {_CONFIG}")


def _of_config(path: Path) -> TemplateSource:
    config = _parse(path)
    tokens = _special_tokens(config)
    beside = path.with_name(_BESIDE)
    if path.name == _CONFIG and beside.is_file():
        return TemplateSource(_read(beside), _read_optional(path.parent / _FOR_TOOLS), tokens)
    source = config.get("chat_template")
    if isinstance(source, str):
        return TemplateSource(source, None, tokens)
    named = _by_name(source, path)
    if "default" not in named:
        raise ConfigurationError(f"{str(path)!r} has no chat_template" + (" that is called default" if named else ""))
    return TemplateSource(named["default"], named.get("tool_use"), tokens)


def _by_name(source: Any, path: Path) -> dict[str, str]:
    """Return several templates by name, as a list of `{"name", "template"}` or as one object."""
    if source is None:
        return {}
    if isinstance(source, list) and all(isinstance(each, dict) for each in source):
        pairs = [(each.get("name"), each.get("template")) for each in source]
    elif isinstance(source, dict):
        pairs = list(source.items())
    else:
        pairs = [(None, None)]
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in pairs):
        raise ConfigurationError(
            f"the chat_template of {str(path)!r} must be a text, or a list of objects with the texts name and template"
        )
    return dict(pairs)


def _tokens_beside(path: Path) -> dict[str, str]:
    config = path.with_name(_CONFIG)
    return _special_tokens(_parse(config)) if config.is_file() else {}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return every `…_token` of a tokenizer: a text, or an object with its `content`."""
    extra = config.get("extra_special_tokens")
    fields = {**(extra if isinstance(extra, dict) else {}), **config}
    tokens = {}
    for name, token in fields.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _parse(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(path))
    except (ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{str(path)!r} is not JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise ConfigurationError(f"{str(path)!r} is not a tokenizer's configuration: it holds no JSON object")
    return config


def _read_optional(path: Path) -> str | None:
    return _read(path) if path.is_file() else None


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise FileNotFoundError(2, "it is no file" if path.exists() else "there is no such file")
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigurationError(f"cannot read the chat template {str(path)!r}: it is larger than 64 MiB")
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"cannot read the chat template {str(path)!r}: {exc.strerror}") from exc
    except ValueError as exc:  # not UTF-8, or no path at all
        raise ConfigurationError(f"cannot read the chat template {str(path)!r}: it is not UTF-8 text") from exc
