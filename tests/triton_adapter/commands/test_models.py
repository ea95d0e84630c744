"""`worker-adapter models list|load|unload|config|stats` on a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.worker_adapter.program import Finished, run
from triton_adapter.embedded import EmbeddedTriton

pytestmark = pytest.mark.live


def models(triton: EmbeddedTriton, *arguments: str) -> Finished:
    return run("models", *arguments, "--url", triton.grpc_url)


def test_list_shows_every_model_with_its_state(triton: EmbeddedTriton) -> None:
    listed = models(triton, "list", "--json").document["models"]
    table = models(triton, "list").out.splitlines()

    assert {"name": "addsub", "ready": True, "version": "1", "state": "READY", "reason": None} in listed
    assert table[0].split() == ["MODEL", "VERSION", "STATE", "REASON"]
    assert ["addsub", "1", "READY", "-"] in [line.split() for line in table]


def test_a_model_can_be_unloaded_and_loaded_again(triton: EmbeddedTriton) -> None:
    try:
        unloaded = models(triton, "unload", "addsub", "--json")
        ready = {one["name"] for one in models(triton, "list", "--ready", "--json").document["models"]}
    finally:
        loaded = models(triton, "load", "addsub", "--json")

    assert unloaded.document == {"model": "addsub", "loaded": False}
    assert "addsub" not in ready
    assert loaded.document == {"model": "addsub", "loaded": True, "versions": ["1"], "started": True, "answered": True}


def test_a_model_can_be_loaded_with_another_configuration(triton: EmbeddedTriton, tmp_path: Path) -> None:
    config = models(triton, "config", "addsub").document
    override = tmp_path / "config.json"
    override.write_text(json.dumps({**config, "max_batch_size": 16}))
    try:
        loaded = models(triton, "load", "addsub", "--config", str(override))
        changed = models(triton, "config", "addsub").document["max_batch_size"]
    finally:
        # Unloaded in between: a load with an unchanged repository would keep the override.
        models(triton, "unload", "addsub")
        models(triton, "load", "addsub")

    assert loaded.code == 0
    assert changed == 16
    assert models(triton, "config", "addsub").document == config


def test_a_configuration_that_is_not_valid_is_told_from_a_model_that_is_not_there(
    triton: EmbeddedTriton, tmp_path: Path
) -> None:
    config = models(triton, "config", "addsub").document
    override = tmp_path / "config.json"
    # Smaller than the batch size that its dynamic batching prefers.
    override.write_text(json.dumps({**config, "max_batch_size": 3}))

    refused = models(triton, "load", "addsub", "--config", str(override))
    missing = models(triton, "load", "nope")

    assert refused.err.startswith("error[invalid_request]: model 'addsub'")
    assert missing.err.startswith("error[model_not_found]: ")
    assert "addsub" in {one["name"] for one in models(triton, "list", "--ready", "--json").document["models"]}


def test_stats_count_what_a_model_did(triton: EmbeddedTriton) -> None:
    def successes() -> int:
        (entry,) = models(triton, "stats", "tinylm", "--json").document["models"]
        count: int = entry["success"]["count"]
        return count

    before = successes()
    run("submit", "--url", triton.grpc_url, "--model", "tinylm", "--max-tokens", "1", "hello")

    assert successes() == before + 1
    assert "tinylm" in models(triton, "stats").out


@pytest.mark.parametrize("command", ["config", "stats"])
def test_an_unknown_model_is_one_sentence(triton: EmbeddedTriton, command: str) -> None:
    result = models(triton, command, "nope")

    assert result.code == 1
    assert result.err.startswith("error[model_not_found]: ")
    assert len(result.err.splitlines()) == 1


def test_wrong_arguments_are_refused_before_anything_is_sent(triton: EmbeddedTriton, tmp_path: Path) -> None:
    missing = models(triton, "load", "addsub", "--config", str(tmp_path / "missing.json"))
    no_path = models(triton, "load", "addsub", "--file", "model.py")

    assert (missing.code, no_path.code) == (2, 2)
    assert "missing.json" in missing.err
    assert "PATH=FILE" in no_path.err


def test_an_engine_that_is_gone_is_exit_code_3(closed_url: str) -> None:
    assert run("models", "list", "--url", closed_url).code == 3
