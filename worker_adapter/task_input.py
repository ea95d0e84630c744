"""What a task is made of, read from files, standard input and the command line."""

from __future__ import annotations

import json
import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_api import ConfigurationError, InvalidRequest

STDIN = "-"


def read_prompt(argument: str | None, *, has_other_input: bool) -> str | None:
    """Return the prompt: the argument, or standard input when it is `-` or absent and nothing else was given.

    One line break at the end of standard input is dropped, so that `echo Hello |` means `Hello`.

    Raises:
        InvalidRequest: There is no prompt anywhere, or it is not UTF-8.
    """
    if argument is not None and argument != STDIN:
        return argument
    if argument is None:
        if has_other_input:
            return None
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidRequest("there is no prompt: give it as an argument, or on standard input")
    return _read_stdin().removesuffix("\n").removesuffix("\r")


def user_message(prompt: str | None, images: Sequence[Path]) -> dict[str, Any]:
    """Return the user's turn: the prompt, and the images after it."""
    if not images:
        return {"role": "user", "content": prompt or ""}
    parts: list[dict[str, Any]] = [{"type": "text", "text": prompt}] if prompt else []
    for path in images:
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        parts.append({"type": "image", "data": _read_bytes(path), "media_type": media_type})
    return {"role": "user", "content": parts}


def read_json(path: Path) -> Any:
    """Return the JSON value in a file, or on standard input when `path` is `-`."""
    text = _read_stdin() if str(path) == STDIN else read_text(path)
    try:
        return json.loads(text)
    except ValueError as exc:
        raise InvalidRequest(f"{'standard input' if str(path) == '-' else path} is not JSON: {exc}") from None


def read_text(path: Path) -> str:
    """Return the text of a file; raises `ConfigurationError` when it cannot be read, `InvalidRequest` for no UTF-8."""
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not UTF-8 text") from None


def parse_parameter(
    text: str, form: str = "ENGINE.NAME=VALUE, as in triton.lora_name=french"
) -> tuple[str, bool | int | float | str]:
    """Return key and value of `KEY=VALUE`; the value is a number, true or false when it reads as one, else a text."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InvalidRequest(f"--parameter takes {form}")
    try:
        parsed = json.loads(value)
    except ValueError:
        return key, value
    return key, parsed if isinstance(parsed, bool | int | float | str) else value


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InvalidRequest("standard input is not UTF-8 text") from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from None
