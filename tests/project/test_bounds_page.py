"""`docs/bounds.md` says what the code and the settings say, and leaves nothing out."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from adapter_api import bounds
from orchestrator.config import HostSettings
from orchestrator.config.server import HistorySettings, LimitSettings, RetentionSettings
from orchestrator.rollout.report import RECENT

PAGE = (Path(__file__).parents[2] / "docs" / "bounds.md").read_text("utf-8")
ROWS = re.findall(r"^\| .* \| ([\d.]+) \| `([\w.]+)` \|$", PAGE, re.MULTILINE)


def default_of(setting: str) -> Any:
    """What a setting is when nobody sets it; `pools` has as many as one likes, of one kind."""
    model: Any = HostSettings
    *path, last = setting.split(".")
    for step in path:
        kind = model.model_fields[step].annotation
        model = next((each for each in get_args(kind) if isinstance(each, type)), kind)
        assert issubclass(model, BaseModel), setting
    return model.model_fields[last].default


def value_of(name: str) -> Any:
    if name.isupper():
        return getattr(bounds, name)
    if name.startswith("orchestrator."):
        module, _, constant = name.rpartition(".")
        return getattr(import_module(module), constant)
    return default_of(name)


@pytest.mark.spec("ORCH-3063-005")
@pytest.mark.parametrize("value, name", ROWS)
def test_a_bound_is_what_the_page_says(value: str, name: str) -> None:
    assert int(value) == value_of(name)


@pytest.mark.spec("ORCH-3063-005")
def test_no_bound_is_left_out() -> None:
    told = {name for _, name in ROWS}
    constants = {name for name in vars(bounds) if name.startswith("MAX_")}
    settings = {f"server.limits.{name}" for name in LimitSettings.model_fields}
    settings |= {f"retention.{name}" for name in RetentionSettings.model_fields if name != "file"}
    settings |= {f"history.{name}" for name in HistorySettings.model_fields}

    assert constants | settings <= told
    assert f"the last {RECENT} tasks" in PAGE
