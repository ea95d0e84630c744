"""The documents tell the truth: their commands exist, their code runs, their links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.project.repository import ROOT, Block, blocks, documents, local_links, relative
from tests.worker_adapter.program import run
from triton_adapter.embedded import EmbeddedTriton

KNOWN_PROGRAMS = frozenset(
    {"make", "worker-adapter", "python", "python3", "pip", "pytest", "git", "cd", "curl", "docker", "pipx", "uv"}
    | {"cp", "kubectl", "mkdir", "tritonserver", "yolo"}
)

COMMANDS = [block for block in blocks("console")]
READERS: dict[str, Callable[[str], object]] = {
    "python": lambda text: compile(text, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT),
    "json": json.loads,
    "toml": tomllib.loads,
}
READABLE = [block for language in READERS for block in blocks(language)]
EXECUTED = [
    pytest.param(block, marks=[pytest.mark.live] if "live" in block.info else [])
    for block in blocks("python")
    if {"run", "live"} & {*block.info}
]
"""Blocks marked as in `python run`; those marked `live` find a real server at `ORCHD_TRITON_URL`."""


def commands_in(block: Block) -> list[list[str]]:
    """The words of each command after a `$ ` prompt, lines that end in a backslash joined."""
    joined = re.sub(r"\\\n\s*(?:> )?", " ", block.text)
    lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return [shlex.split(part, comments=True) for line in lines for part in re.split(r"&&|\|(?!\|)", line)]


@cache
def help_of(command: tuple[str, ...]) -> str:
    shown = run(*command, "--help", env={"NO_COLOR": "1", "TERM": "dumb"})
    assert shown.code == 0, f"`worker-adapter {' '.join(command)}` is no command: {shown.err}"
    return shown.out


def check_own_command(words: list[str]) -> None:
    """Every option is in the help of the longest run of words that is a command."""
    subcommand: tuple[str, ...] = ()
    for word in words[1:]:
        if word.startswith("-") or not re.search(rf"^\W*{re.escape(word)}\s", help_of(subcommand), re.MULTILINE):
            break
        subcommand = (*subcommand, word)
    assert subcommand or all(word.startswith("-") for word in words[1:]), (
        f"`{words[1]}` is no command of worker-adapter"
    )
    for word in words[1:]:
        if word.startswith("--"):
            option = word.partition("=")[0]
            shown = help_of(subcommand) + help_of(())
            assert re.search(rf"{re.escape(option)}\b", shown), f"no {option} in `{' '.join(subcommand)} --help`"


def check_make(words: list[str]) -> None:
    targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"no `make {target}`"


def check_module(words: list[str]) -> None:
    if "-m" in words:
        module = words[words.index("-m") + 1]
        assert importlib.util.find_spec(module), f"no module {module}"


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_shown_in_documents_exist(block: Block) -> None:
    commands = commands_in(block)

    assert commands, f"{block}: a console block shows commands behind `$ `"
    for words in commands:
        program = words[0].rpartition("/")[2]
        assert program in KNOWN_PROGRAMS, f"{block}: what is `{program}`?"
        if program == "worker-adapter":
            check_own_command(words)
        elif program == "make":
            check_make(words)
        elif program.startswith("python"):
            check_module(words)


@pytest.mark.parametrize("block", READABLE, ids=str)
def test_code_and_data_shown_in_documents_can_be_read(block: Block) -> None:
    READERS[block.info[0]](block.text)


@pytest.mark.parametrize("block", EXECUTED, ids=str)
def test_code_that_is_marked_to_run_runs(block: Block, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    variables = dict(os.environ)
    if "live" in block.info:
        triton: EmbeddedTriton = request.getfixturevalue("triton")
        variables["ORCHD_TRITON_URL"] = triton.grpc_url

    # The empty lines make the line numbers of a traceback those of the document.
    source = "\n" * block.line + block.text
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, f"{block} failed:\n{ran.stderr}"


@pytest.mark.parametrize("document", documents(), ids=relative)
def test_links_between_files_lead_somewhere(document: Path) -> None:
    broken = [link for link in local_links(document) if not (document.parent / link.partition("#")[0]).exists()]

    assert not broken
