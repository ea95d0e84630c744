"""Rooms and floors: what the import contracts of `pyproject.toml` forbid turns `make check` red."""

from __future__ import annotations

import itertools
from copy import deepcopy
from functools import cache
from typing import Any

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

from tests.project.repository import PACKAGES, ROOT

no_spec = "the house's own order, which no user sees"

KINDS: dict[str, type[Contract]] = {"layers": LayersContract, "acyclic_siblings": AcyclicSiblingsContract}

FLAT = {"adapter_kit": "its files are tools side by side: no circles is all the order they need"}
"""Packages without floors, and why."""


@cache
def configuration() -> dict[str, Any]:
    return read_configuration(str(ROOT / "pyproject.toml"))


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def contract(options: dict[str, Any]) -> Contract:
    session: dict[str, Any] = configuration()["session_options"]
    return KINDS[options["type"]](options["name"], session, options)


def floors(package: str) -> dict[str, Any]:
    """The options of the package's contract of floors."""
    layered = (each for each in configuration()["contracts_options"] if each["type"] == "layers")
    found: list[dict[str, Any]] = [each for each in layered if each["containers"] == [package]]
    assert len(found) == 1, f"{package} has {len(found)} contracts of floors"
    return found[0]


def rooms(package: str) -> list[list[str]]:
    """The package's rooms, floor by floor, the highest first."""
    return [[f"{package}.{room.strip()}" for room in floor.split("|")] for floor in floors(package)["layers"]]


def is_kept(options: dict[str, Any], graph: grimp.ImportGraph) -> bool:
    return contract(options).check(graph, verbose=False).kept


HOUSES = [package for package in PACKAGES if package not in FLAT]


@pytest.mark.parametrize("package", HOUSES)
def test_every_room_on_disk_has_a_floor_and_no_other_may_be_added_without_one(package: str) -> None:
    on_disk = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    on_disk |= {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    graph = deepcopy(imports())
    graph.add_module(f"{package}.annexe")

    assert {room for floor in rooms(package) for room in floor} == {f"{package}.{name}" for name in on_disk}
    assert is_kept(floors(package), imports())
    assert not is_kept(floors(package), graph)


@pytest.mark.parametrize("package", HOUSES)
def test_one_import_upwards_breaks_the_contract_from_every_floor(package: str) -> None:
    house = rooms(package)
    for above, below in itertools.pairwise(house):
        graph = deepcopy(imports())
        graph.add_import(importer=below[-1], imported=above[0])

        assert not is_kept(floors(package), graph), f"{below[-1]} may import {above[0]}"


@pytest.mark.parametrize("package", HOUSES)
def test_neighbours_on_one_floor_do_not_know_each_other(package: str) -> None:
    for floor in rooms(package):
        for one, other in itertools.pairwise(floor):
            graph = deepcopy(imports())
            graph.add_import(importer=one, imported=other)

            assert not is_kept(floors(package), graph), f"{one} may import {other}"


@pytest.mark.parametrize("package", PACKAGES)
def test_two_files_that_import_each_other_break_the_contract(package: str) -> None:
    circles = next(each for each in configuration()["contracts_options"] if each["type"] == "acyclic_siblings")
    graph = deepcopy(imports())
    importer, imported = a_pair_of_siblings(package, graph)
    graph.add_import(importer=imported, imported=importer)

    assert is_kept(circles, imports())
    assert not is_kept(circles, graph), f"{importer} and {imported} may import each other"


def a_pair_of_siblings(package: str, graph: grimp.ImportGraph) -> tuple[str, str]:
    for importer in sorted(graph.find_descendants(package)):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            if importer.rpartition(".")[0] == imported.rpartition(".")[0]:
                return importer, imported
    raise AssertionError(f"no file of {package} imports another of the same room")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_reaches_back_for_the_package_it_is_in(package: str) -> None:
    assert not imports().find_modules_that_directly_import(package) & imports().find_descendants(package)
