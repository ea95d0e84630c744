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
from functools import cache
from pathlib import Path

import pytest

from tests.project.repository import ROOT, Block, blocks, documents, local_links, relative
from triton_adapter.embedded import EmbeddedTriton

KNOWN_PROGRAMS = frozenset(
    {"make", "worker-adapter", "python", "python3", "pip", "pytest", "git", "cd", "curl", "docker"}
)

COMMANDS = [block for block in blocks("console")]
PYTHON = [block for block in blocks("python")]
RUN = [block for block in PYTHON if "run" in block.info]
LIVE = [block for block in PYTHON if "live" in block.info]
DATA = [block for language in ("json", "toml") for block in blocks(language)]


def commands_in(block: Block) -> list[list[str]]:
    """The words of each command after a `$ ` prompt, lines that end in a backslash joined."""
    joined = re.sub(r"\\\n\s*(?:> )?", " ", block.text)
    lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return [shlex.split(part, comments=True) for line in lines for part in re.split(r"&&|\|(?!\|)", line)]


@cache
def help_of(command: tuple[str, ...]) -> str:
    program = Path(sys.executable).with_name("worker-adapter")
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    shown = subprocess.run(
        [program, *command, "--help"], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert shown.returncode == 0, f"`worker-adapter {' '.join(command)}` is no command: {shown.stderr}"
    return shown.stdout


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


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_shown_in_documents_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", DATA, ids=str)
def test_data_shown_in_documents_parses(block: Block) -> None:
    parse = {"json": json.loads, "toml": tomllib.loads}[block.info[0]]

    parse(block.text)


@pytest.mark.parametrize("block", RUN, ids=str)
def test_python_marked_as_run_runs(block: Block, tmp_path: Path) -> None:
    run_block(block, tmp_path)


@pytest.mark.live
@pytest.mark.parametrize("block", LIVE, ids=str)
def test_python_marked_as_live_runs_against_a_real_server(block: Block, triton: EmbeddedTriton, tmp_path: Path) -> None:
    run_block(block, tmp_path, ORCHD_TRITON_URL=triton.grpc_url)


def run_block(block: Block, folder: Path, **variables: str) -> None:
    source = "\n" * block.line + block.text
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{block} failed:\n{ran.stderr}"


@pytest.mark.parametrize("document", documents(), ids=relative)
def test_links_between_files_lead_somewhere(document: Path) -> None:
    broken = [link for link in local_links(document) if not (document.parent / link.partition("#")[0]).exists()]

    assert not broken
