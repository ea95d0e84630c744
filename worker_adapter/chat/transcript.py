"""A conversation as it was seen, to be saved."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_api import ConfigurationError, InvalidRequest


class Transcript:
    """Every question that was answered, and its answer; of pictures only where they were."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []

    def add(self, question: str, images: Sequence[str], answer: str, *, model: str) -> None:
        """Remember a turn."""
        self.turns.append({"question": question, "images": list(images), "answer": answer, "model": model})

    def clear(self) -> None:
        """Forget everything."""
        self.turns.clear()

    def save(self, path: Path, *, system: str | None) -> None:
        """Write everything into a new file, for its owner only: Markdown where the name ends in `.md`, else JSON.

        Raises:
            InvalidRequest: There is such a file.
            ConfigurationError: It cannot be written.
        """
        text = self._markdown(system) if path.suffix.lower() == ".md" else self._json(system)
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise InvalidRequest(f"{path} is there already: save under another name") from None
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"cannot write {path}: {getattr(exc, 'strerror', None) or exc}") from None

    def _json(self, system: str | None) -> str:
        messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        for turn in self.turns:
            shown = {"images": turn["images"]} if turn["images"] else {}
            messages.append({"role": "user", "content": turn["question"], **shown})
            messages.append({"role": "assistant", "content": turn["answer"], "model": turn["model"]})
        return json.dumps({"messages": messages}, ensure_ascii=False, indent=2) + "\n"

    def _markdown(self, system: str | None) -> str:
        blocks = [] if system is None else [f"*{system}*"]
        for turn in self.turns:
            shown = "".join(f"\n\n![]({path})" for path in turn["images"])
            blocks += [f"**You:** {turn['question']}{shown}", f"**{turn['model']}:** {turn['answer']}"]
        return "\n\n".join(blocks) + "\n"
