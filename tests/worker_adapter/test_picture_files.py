"""Where drawn pictures go."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_api import ConfigurationError
from worker_adapter.picture_files import Target

no_spec = "how the command names its files; that it draws is tried with it"


def test_pictures_that_differ_by_their_ending_alone_are_drawn_side_by_side() -> None:
    pictures = [Path("a/photo.jpg"), Path("a/photo.png"), Path("a/other.jpg")]

    target = Target(Path("out"), pictures, several=True)

    assert [target.file(each).name for each in pictures] == ["photo.jpg.png", "photo.png.png", "other.png"]


def test_pictures_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="same name"):
        Target(Path("out"), [Path("a/photo.jpg"), Path("b/photo.jpg")], several=True)
