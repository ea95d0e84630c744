"""`models prepare`: what is written from an ONNX file, and that a real server then gives what the file gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from adapter_api import ConfigurationError, EngineFailed, InferRequest, Tensor
from adapter_clients import DetectionClient, DetectionSettings
from tests.adapter_clients.detection.detectors import PLAIN
from tests.worker_adapter.program import run
from triton_adapter.adapter import TritonAdapter
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.repository.prepare import prepare_onnx
from triton_adapter.settings import TritonSettings

onnx = pytest.importorskip("onnx", reason="making ONNX models needs onnx: pip install 'worker-adapter[test]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="ONNX models need onnxruntime: pip install 'worker-adapter[onnx]'"
)

METADATA = {
    "task": "detect",
    "names": "{0: 'a \"b\" \\\\', 1: 'größer'}",
    "imgsz": "[64, 64]",
    "stride": "32",
    "end2end": "True",
}


def model_file(
    path: Path, *, batch: int | str = "batch", metadata: dict[str, str] | None = None, ir_version: int = 8,
    size: int | None = 64,
) -> Path:  # fmt: skip
    """Write a detector of one node: it says where the picture is brightest at all, as one finished box."""
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    box = onnx.numpy_helper.from_array(np.array([[[8, 16, 40, 48, 0, 1]]], np.float32), "box")
    score = onnx.numpy_helper.from_array(np.array([0, 0, 0, 0, 1, 0], np.float32), "score")
    axes = onnx.numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes")
    shape = onnx.numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "shape")
    nodes = [
        helper.make_node("ReduceMax", ["images", "axes"], ["brightest"], keepdims=0),
        helper.make_node("Reshape", ["brightest", "shape"], ["each"]),
        helper.make_node("Mul", ["each", "score"], ["scored"]),
        helper.make_node("Add", ["scored", "box"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes, "brightest",
        [helper.make_tensor_value_info("images", numbers, [batch, 3, size or "height", size or "width"])],
        [helper.make_tensor_value_info("output0", numbers, [batch, 1, 6])],
        [box, score, axes, shape],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=ir_version)
    for key, value in (METADATA if metadata is None else metadata).items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(made, path)
    return path


@pytest.mark.spec("ORCH-3069-022")
def test_the_configuration_is_written_from_the_file(tmp_path: Path) -> None:
    made = prepare_onnx(model_file(tmp_path / "bright.onnx"), tmp_path / "models", max_batch_size=4, instances=2)

    assert (made.name, made.task, made.classes) == ("bright", "detect", 2)
    config = text_format.Parse(made.config, model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("bright", "python", 4)
    assert list(config.input[0].dims) == [3, 64, 64]
    assert list(config.output[0].dims) == [1, 6]
    assert config.instance_group[0].count == 2
    assert config.HasField("dynamic_batching")
    assert list(config.model_warmup[0].inputs["images"].dims) == [3, 64, 64]
    assert 'a \\"b\\"' in made.config
    assert eval(config.parameters["metadata"].string_value) == METADATA


@pytest.mark.spec("ORCH-3069-022")
def test_a_fixed_batch_is_a_dimension(tmp_path: Path) -> None:
    made = prepare_onnx(model_file(tmp_path / "two.onnx", batch=2), tmp_path / "models", backend="onnxruntime")

    assert "max_batch_size: 0" in made.config
    assert "dims: [ 2, 3, 64, 64 ]" in made.config
    assert "dynamic_batching" not in made.config
    assert not (made.folder / "1" / "model.py").exists()


@pytest.mark.spec("ORCH-3069-022")
@pytest.mark.parametrize("written, side", [("64", 64), ("[64, 64]", 64), ("(64, 64)", 64), ("?", 640)])
def test_the_warm_up_is_one_picture_also_where_no_axis_is_fixed(tmp_path: Path, written: str, side: int) -> None:
    file = model_file(tmp_path / "any.onnx", metadata={"imgsz": written}, size=None)

    made = prepare_onnx(file, tmp_path / "models", max_batch_size=0)

    config = text_format.Parse(made.config, model_config_pb2.ModelConfig())
    assert list(config.input[0].dims) == [-1, 3, -1, -1]
    assert list(config.model_warmup[0].inputs["images"].dims) == [1, 3, side, side]


@pytest.mark.spec("ORCH-3069-022")
@pytest.mark.parametrize("names", ["['cat', 'dog']", "{0: 'cat', 1: 'dog'}", "('cat', 'dog')"])
def test_class_names_are_counted_however_the_file_has_them(tmp_path: Path, names: str) -> None:
    file = model_file(tmp_path / "old.onnx", metadata={"names": names})

    assert prepare_onnx(file, tmp_path / "models").classes == 2


@pytest.mark.spec("ORCH-3069-022")
def test_a_file_that_is_no_model_is_told_of_without_its_path(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")

    for file, said in ((text, "text.onnx is no model"), (tmp_path / "none.onnx", "there is no file")):
        with pytest.raises(ConfigurationError, match=said):
            prepare_onnx(file, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.spec("ORCH-3069-022")
def test_a_model_of_that_name_is_not_replaced_unasked(tmp_path: Path) -> None:
    file = model_file(tmp_path / "a.onnx")
    prepare_onnx(file, tmp_path / "models")

    with pytest.raises(ConfigurationError, match="--overwrite"):
        prepare_onnx(file, tmp_path / "models")
    assert prepare_onnx(file, tmp_path / "models", overwrite=True, names=["x", "y", "z"]).classes == 3


@pytest.mark.spec("ORCH-3069-022")
def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    file = model_file(tmp_path / "a.onnx", metadata={})

    result = run("models", "prepare", str(file), "--repository", str(tmp_path / "models"))

    assert result.code == 0
    assert "no class names: give --names" in result.out
    assert f"--model-repository {tmp_path / 'models'}" in result.out


@pytest.mark.live
@pytest.mark.spec("ORCH-3069-022")
@pytest.mark.anyio
async def test_a_server_gives_what_the_file_gives(triton: EmbeddedTriton, tmp_path: Path) -> None:
    file = model_file(tmp_path / "bright.onnx")
    made = prepare_onnx(file, tmp_path / "models", name="prepared")
    files = {f"1/{path.name}": path.read_bytes() for path in (made.folder / "1").iterdir()}
    values = np.random.default_rng(5).uniform(0, 1, (3, 3, 64, 64)).astype(np.float32)
    expected = onnxruntime.InferenceSession(str(file)).run(None, {"images": values})[0]

    async with TritonAdapter(TritonSettings(url=triton.grpc_url)) as adapter:
        try:
            await adapter.models.load("prepared", config=_as_json(made.config), files=files)
            request = InferRequest(model="prepared", inputs=(Tensor.from_numpy("images", values),))
            answer = await adapter.infer(request)
            client = DetectionClient(adapter, DetectionSettings.make(model="prepared"))
            found = await client.detect(PLAIN)
        except EngineFailed as exc:
            if "has no onnxruntime" not in exc.message:
                raise
            pytest.skip("the Python of the server has no onnxruntime: install it there")
        finally:
            await adapter.models.unload("prepared")

    assert (answer["output0"].to_numpy() == expected).all()
    (only,) = found.detections
    assert (only.class_name, tuple(only.box)) == ("größer", (80, 80, 400, 400))


@pytest.mark.live
@pytest.mark.anyio
@pytest.mark.spec("ORCH-3069-005")
async def test_the_demos_detector_finds_what_is_there(triton: EmbeddedTriton) -> None:
    async with DetectionClient.connect(triton.grpc_url, model="colours", confidence=0.5) as client:
        result = await client.detect(PLAIN)

    assert [(each.class_name, tuple(each.box)) for each in result.detections] == [
        ("red", (40, 60, 200, 160)),
        ("green", (300, 100, 420, 300)),
        ("blue", (480, 320, 600, 440)),
    ]


def _as_json(config: str) -> Any:
    return json_format.MessageToDict(
        text_format.Parse(config, model_config_pb2.ModelConfig()), preserving_proto_field_name=True
    )
