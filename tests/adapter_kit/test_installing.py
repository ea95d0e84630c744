"""The command that a message advises works for whoever reads it, however the package was installed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from adapter_kit import installing
from adapter_kit.installing import install, install_extra, requirements_of
from tests.project.repository import project_files, relative

no_spec = "how to install is advice, and no behaviour of an adapter"


class Installed:
    """A distribution as pip records it."""

    requires = ("anyio>=4", 'tokenizers<1,>=0.20; extra == "tokenizers"', "jinja2<4; extra == 'server'")

    def __init__(self, direct_url: object) -> None:
        self._direct_url = None if direct_url is None else json.dumps(direct_url)

    def read_text(self, name: str) -> str | None:
        return self._direct_url if name == "direct_url.json" else None


@pytest.fixture
def installed_from(monkeypatch: pytest.MonkeyPatch) -> object:
    def made(direct_url: object) -> None:
        monkeypatch.setattr(installing, "distribution", lambda name: Installed(direct_url))

    return made


def words_of(command: str) -> list[str]:
    *program, last = shlex.split(command)
    assert program[:4] == [sys.executable, "-m", "pip", "install"]
    return [*program[4:], last]


def test_from_a_checkout_in_use_the_checkout_is_named(installed_from: object, tmp_path: Path) -> None:
    checkout = tmp_path / "a folder"
    checkout.mkdir()
    installed_from({"url": checkout.as_uri(), "dir_info": {"editable": True}})  # type: ignore[operator]

    assert words_of(install_extra("server")) == ["-e", f"{checkout}[server]"]


def test_from_a_wheel_the_wheel_is_named(installed_from: object, tmp_path: Path) -> None:
    wheel = tmp_path / "worker_adapter-1-py3-none-any.whl"
    wheel.touch()
    installed_from({"url": wheel.as_uri(), "archive_info": {}})  # type: ignore[operator]

    assert words_of(install_extra("server")) == [f"{wheel}[server]"]


@pytest.mark.parametrize("direct_url", [None, {"url": "file:///nowhere/left"}, {"url": "https://host/x.whl"}], ids=str)
def test_from_elsewhere_what_the_extra_stands_for_is_named(installed_from: object, direct_url: object) -> None:
    installed_from(direct_url)  # type: ignore[operator]

    assert words_of(install_extra("tokenizers")) == ["tokenizers<1,>=0.20"]


def test_without_an_installation_the_name_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(installing, "distribution", not_found)

    assert words_of(install_extra("otel")) == ["worker-adapter[otel]"]


@pytest.mark.parametrize("extra", ["embedded", "server", "tokenizers", "vision", "otel"])
def test_every_extra_stands_for_something(extra: str) -> None:
    assert requirements_of(extra, requires("worker-adapter") or [])


def test_an_environment_of_uv_has_no_pip_and_is_told_uvs_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter_kit.installing.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("adapter_kit.installing.shutil.which", lambda name: f"/bin/{name}")

    assert install("x<2") == f"uv pip install --python {shlex.quote(sys.executable)} 'x<2'"
    assert install("x<2", python="/opt/python") == "/opt/python -m pip install 'x<2'"


def test_the_command_is_one_that_pip_understands() -> None:
    ran = subprocess.run(
        [*shlex.split(install_extra("vision")), "--dry-run", "--no-deps", "--no-index", "--no-build-isolation"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    # Without an index it goes no further than to look for what builds a checkout, or for the extra's packages.
    assert "Invalid requirement" not in ran.stderr
    assert "no such option" not in ran.stderr


def test_no_message_advises_what_is_not_published() -> None:
    advice = "pip install 'worker-adapter" + "["
    code = [path for path in project_files() if path.suffix == ".py" and not relative(path).startswith("tests/")]

    assert [relative(path) for path in code if advice in path.read_text(encoding="utf-8")] == []
