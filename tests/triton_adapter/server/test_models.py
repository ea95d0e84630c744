"""Control of the server's models."""

from __future__ import annotations

import pytest

from adapter_api import ConfigurationError, EngineFailed, HealthState, ModelNotFound, NotReady, Unsupported
from tests.triton_adapter.lab import loaded, tensor
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]

X, Y = tensor("X", "TYPE_FP32", 1), tensor("Y", "TYPE_FP32", 1)
ECHO = "def execute(self, requests):\n    return [answer(Y=value(request, 'X')) for request in requests]"


async def test_the_index_lists_every_model_with_its_state(adapter: TritonAdapter) -> None:
    index = {model.name: model for model in await adapter.models.index()}

    assert {"tinylm", "tinytrt", "addsub", "slow"} <= index.keys()
    assert (index["tinylm"].ready, index["tinylm"].version, index["tinylm"].state) == (True, "1", "READY")


async def test_a_model_is_loaded_with_a_configuration_and_files_of_ones_own(adapter: TritonAdapter) -> None:
    async with loaded(adapter, "mine", inputs=[X], outputs=[Y], code=ECHO, max_batch_size=3) as schema:
        assert schema.max_batch_size == 3
        assert schema.inputs["X"].dims == (1,)
        assert await adapter.models.ready("mine")
    assert not await adapter.models.ready("mine")


async def test_a_configuration_may_be_changed_while_the_model_is_loaded(adapter: TritonAdapter) -> None:
    async with loaded(adapter, "changing", inputs=[X], outputs=[Y], code=ECHO) as before:
        groups = [{"kind": "KIND_CPU", "count": 2}]
        async with loaded(adapter, "changing", inputs=[X], outputs=[Y], code=ECHO, instance_group=groups) as after:
            config = await adapter.models.config("changing")

    assert (before.instance_count, after.instance_count) == (1, 2)
    assert config["instance_group"][0]["count"] == 2


async def test_a_configuration_has_numbers_and_names_as_in_the_file(adapter: TritonAdapter) -> None:
    config = await adapter.models.config("tinylm")

    assert config["name"] == "tinylm"
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert config["input"][0] == {"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}
    assert config["input"][1]["optional"] is True
    assert config["parameters"]["MAX_MODEL_LEN"] == {"string_value": "2048"}


async def test_a_configuration_that_is_no_json_is_refused_before_it_is_sent(adapter: TritonAdapter) -> None:
    with pytest.raises(ConfigurationError, match="JSON"):
        await adapter.models.load("tinylm", config="max_batch_size: 3")
    with pytest.raises(ConfigurationError, match="config"):
        await adapter.models.load("tinylm", files={"1/model.py": b""})


async def test_a_model_that_is_not_there_cannot_be_loaded(adapter: TritonAdapter) -> None:
    with pytest.raises(ModelNotFound, match="nope"):
        await adapter.models.load("nope")


async def test_a_model_that_fails_to_load_says_why(adapter: TritonAdapter) -> None:
    with pytest.raises(EngineFailed, match="no weights"):
        async with loaded(
            adapter,
            "broken",
            inputs=[X],
            outputs=[Y],
            code='def initialize(self, args):\n    raise OSError("no weights")',
        ):
            pass


async def test_unloading_what_is_not_loaded_does_nothing(adapter: TritonAdapter) -> None:
    await adapter.models.unload("nope")


async def test_statistics_count_what_ran(adapter: TritonAdapter) -> None:
    async with loaded(adapter, "counted", inputs=[X], outputs=[Y], code=ECHO):
        statistics = await adapter.models.statistics("counted")

    assert len(statistics) == 1
    assert (statistics[0].name, statistics[0].version, statistics[0].inference_count) == ("counted", "1", 0)
    assert {entry.name for entry in await adapter.models.statistics()} >= {"tinylm", "addsub"}


async def test_statistics_of_an_unknown_model_are_not_found(adapter: TritonAdapter) -> None:
    with pytest.raises(ModelNotFound, match=r"there are: .*tinylm"):
        await adapter.models.statistics("nope")


async def test_a_version_policy_says_which_versions_there_are_and_the_highest_runs(adapter: TritonAdapter) -> None:
    config = {
        "name": "versioned",
        "backend": "python",
        "version_policy": {"specific": {"versions": [1, 3]}},
        "input": [X],
        "output": [Y],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    code = b"""
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.get_input_tensor_by_name(r, "X")]) for r in requests]
"""
    try:
        schema = await adapter.models.load("versioned", config=config, files={f"{v}/model.py": code for v in (1, 2, 3)})

        assert (schema.versions, schema.version) == (("1", "3"), "3")
        assert (await adapter.models.schema("versioned", version="1")).name == "versioned"
        assert not await adapter.models.ready("versioned", version="2")
        with pytest.raises((ModelNotFound, NotReady), match="2"):
            await adapter.models.schema("versioned", version="2")
    finally:
        await adapter.models.unload("versioned")


async def test_trace_and_log_settings_are_read_changed_and_put_back(adapter: TritonAdapter) -> None:
    before = await adapter.models.log_settings()
    try:
        changed = await adapter.models.log_settings({"log_verbose_level": 1, "log_info": False})
        assert (changed["log_verbose_level"], changed["log_info"]) == (1, False)
    finally:
        await adapter.models.log_settings({"log_verbose_level": 0, "log_info": before["log_info"]})

    traced = await adapter.models.trace_settings({"trace_rate": "7"}, model="addsub")
    reset = await adapter.models.trace_settings({"trace_rate": None}, model="addsub")
    assert traced["trace_rate"] == ("7",)
    assert reset["trace_rate"] == (await adapter.models.trace_settings())["trace_rate"]


@pytest.mark.long
async def test_a_server_that_controls_its_models_itself_says_what_to_start_it_with() -> None:
    with EmbeddedTriton(model_control_mode="none") as server:
        async with TritonAdapter(TritonSettings(url=server.grpc_url)) as adapter:
            with pytest.raises(Unsupported, match="--model-control-mode=explicit"):
                await adapter.models.unload("tinylm")
            assert (await adapter.health()).state is HealthState.READY
