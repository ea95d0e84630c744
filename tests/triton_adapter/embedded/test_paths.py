"""A server runs wherever its models lie."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from triton_adapter.embedded import DEMO_MODELS, EmbeddedTriton, demo_repository

from .repositories import QUICK, add_model

pytestmark = pytest.mark.live


@pytest.mark.long
def test_the_path_of_a_repository_may_hold_what_a_shell_would_not_take_literally(tmp_path: Path) -> None:
    repository = add_model(tmp_path / "my $models; (new)", "echo")

    with EmbeddedTriton(repository) as triton:
        assert triton.models == ["echo"]


@pytest.mark.long
def test_the_folder_for_temporary_files_may_have_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my files").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "my files"))

    with EmbeddedTriton(add_model(tmp_path, "echo"), model_control_mode="explicit", load_models=["echo"]) as triton:
        assert triton.models == ["echo"]


@pytest.mark.long
def test_the_demo_models_run_below_a_folder_with_a_blank(tmp_path: Path) -> None:
    embedded = tmp_path / "my checkout"
    for folder in ("models", "model_code"):
        shutil.copytree(demo_repository().with_name(folder), embedded / folder)

    with EmbeddedTriton(embedded / "models", extra_args=QUICK) as triton:
        assert set(triton.models) == {model.name for model in DEMO_MODELS}
