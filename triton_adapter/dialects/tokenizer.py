"""Reads a `tokenizer.json`, for models that take and give token ids."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

from adapter_api import ConfigurationError
from adapter_kit.installing import install_extra


class Tokenizer(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a prompt, with what the model wants in front of it."""

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids` without special tokens; U+FFFD where a character is not complete."""


class FileTokenizer:
    """A `Tokenizer` by Hugging Face's `tokenizers` library."""

    def __init__(self, path: Path) -> None:
        try:
            import tokenizers
        except ImportError as exc:
            raise ConfigurationError(
                f"models that take token ids need the package `tokenizers`; run `{install_extra('tokenizers')}`"
            ) from exc
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as exc:  # the library raises bare Exceptions
            raise ConfigurationError(f"the tokenizer file {path.name!r} cannot be read: {exc}") from exc

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids))


@lru_cache(maxsize=8)
def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer in a file, read once.

    Raises:
        ConfigurationError: The file is no tokenizer, or the package `tokenizers` is not installed.
    """
    return FileTokenizer(path)
