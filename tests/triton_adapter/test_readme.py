"""The adapter's README says all there is, and points at tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import triton_adapter
from adapter_api.testing import error_named
from triton_adapter import ModelOverride, TlsSettings, TritonSettings
from triton_adapter.dialects import choosing
from triton_adapter.settings import _OPTION_OF_VARIABLE

TESTS = Path(__file__).parent.parent
README = (Path(triton_adapter.__file__).parent / "README.md").read_text(encoding="utf-8")
THREADS = README.partition("## Threads")[2]
PROOF = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def table(header: str) -> dict[str, list[str]]:
    """Return the rows of the table with that first heading, by their first cell."""
    found = re.search(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert found, f"no table with the heading {header}"
    return {cells[0].strip("| `"): cells for cells in rows(found[1].replace("| | ", "|  | "))}


@pytest.mark.parametrize(
    "header, model", [("setting", TritonSettings), ("`tls.`", TlsSettings), ("`models.<name>.`", ModelOverride)]
)
def test_every_setting_is_listed_with_its_default(header: str, model: type[BaseModel]) -> None:
    listed = table(header)

    assert list(listed) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert listed[name][1].strip("`") == shown_default(field), name


def shown_default(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True)
    return (
        "none" if (not default and default is not False and default != 0) or default == TlsSettings() else str(default)
    )


def test_every_variable_is_listed_beside_the_setting_it_sets() -> None:
    listed = table("setting")

    for variable, option in _OPTION_OF_VARIABLE.items():
        assert f"`{variable}`" in listed[option][2], variable
    assert set(re.findall(r"`((?:ORCHD_)?TRITON_\w+)`", README)) == set(_OPTION_OF_VARIABLE)


def test_every_dialect_stage_mode_and_error_code_is_listed() -> None:
    dialects = README.partition("## Dialects")[2].partition("## ")[0]
    for name in choosing._DIALECTS:
        assert f"`{name}`" in dialects
    for mode in ("hard", "on_next_chunk", "client_only"):
        assert mode in table("mode")
    for stage in ("connect", "control", "health", "first_token", "inter_token", "total"):
        assert stage in table("stage")
    for code in re.findall(r"`(\w+)`", " ".join(table("code"))):
        assert error_named(code, "x").code == code


def test_every_thread_has_its_answer_and_its_proof() -> None:
    answers = [cells for cells in rows(THREADS) if cells[0].strip("| ").isdecimal()]

    assert [int(cells[0].strip("| ")) for cells in answers] == list(range(1, 44))
    for cells in answers:
        assert len(cells) == 5, cells
        assert re.search(r"\w#\d+", cells[1]), cells
        assert PROOF.search(cells[4]), f"thread {cells[0]} has no test"


@pytest.mark.parametrize("file, name", sorted(set(PROOF.findall(README))))
def test_every_test_named_as_a_proof_exists(file: str, name: str) -> None:
    places = [path for path in (TESTS / "triton_adapter" / file, TESTS / file) if path.is_file()]

    assert places, f"no file {file}"
    assert any(name in names_in(path) for path in places), f"no test {name} in {file}"


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
