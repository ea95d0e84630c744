"""What belongs to the project: its files, and the code blocks and links of its documents."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = (
    "adapter_api", "adapter_kit", "openai_adapter", "triton_adapter", "adapter_clients", "orchestrator",
    "worker_adapter",
    "conformance_tests",
)  # fmt: skip

GENERATED = frozenset({"__pycache__", "build", "dist", "reports"})

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_INLINE_CODE = re.compile(r"`[^`\n]*`")


class Block(NamedTuple):
    """A fenced block of a document; `info` is what stands behind the fence, as in `python run`."""

    file: str
    line: int
    info: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@cache
def project_files() -> tuple[Path, ...]:
    """Return the files that are tracked, or would be; where there is no git, all that are not generated."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return tuple(sorted(_walked(ROOT)))
    paths = (ROOT / name.decode() for name in listed.stdout.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def _walked(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif path.is_dir() and path.name not in GENERATED and (path.name == ".ci" or not path.name.startswith(".")):
            yield from _walked(path)


def documents() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".md"]


def blocks(language: str) -> Iterator[Block]:
    """Yield the fenced blocks in `language` of every document."""
    for path in documents():
        text = path.read_text(encoding="utf-8")
        for fence in _FENCE.finditer(text):
            info = tuple(fence["info"].split())
            if info[:1] == (language,):
                body = "".join(line.removeprefix(fence["indent"]) for line in fence["body"].splitlines(keepends=True))
                yield Block(relative(path), text.count("\n", 0, fence.start()) + 1, info, body)


def local_links(path: Path) -> Iterator[str]:
    """Yield the targets of a document's links that are files of the project."""
    text = _INLINE_CODE.sub("", _FENCE.sub("", path.read_text(encoding="utf-8")))
    for link in _LINK.finditer(text):
        if "://" not in link["target"] and not link["target"].startswith(("#", "mailto:")):
            yield link["target"]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
