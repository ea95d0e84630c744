"""What detection costs the client, beside ultralytics' own Triton client on the same model and server.

The model is made here: it says where the red box is, and computes convolutions whose result it does not use, so that
it takes a detector's time. CPU is of the client's process, its threads included. ultralytics is run by a Python of its
own, which `ULTRALYTICS_PYTHON` names; without one its row is missing. To make one, of 6 GB, most of it for GPUs:

    python -m venv ultralytics
    ultralytics/bin/pip install ultralytics==8.4.190 torch==2.14.1 torchvision==0.29.1 'tritonclient[all]==2.73.0'
    ULTRALYTICS_PYTHON=ultralytics/bin/python python benchmarks/detect.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
from PIL import Image

from adapter_api import InferRequest
from adapter_clients import DetectionClient, DetectionResult, DetectionSettings
from adapter_clients.detection.placing import place, put
from adapter_clients.detection.plan import Plan
from adapter_clients.detection.suppression import suppress
from adapter_kit.images import Picture, open_picture
from triton_adapter import TritonAdapter
from triton_adapter.repository.prepare import prepare_onnx
from triton_adapter.settings import TritonSettings

SIDE, CELLS, IN_FLIGHT = 640, 8400, 8
BOX = (300, 150, 1200, 900)
"""Where red is in the picture of 1920 x 1080: multiples of 3, so that it has the same edges in 640 x 360."""
MODEL = "benchmark"

_ULTRALYTICS = """
import json, sys, time
from ultralytics import YOLO
url, picture, rounds = sys.argv[1:4]
model = YOLO(url, task="detect")
for _ in range(3):
    found = model.predict(picture, verbose=False, imgsz=640)
print(json.dumps(found[0].boxes.xyxy.tolist()), flush=True)
for line in sys.stdin:
    began = time.process_time()
    for _ in range(int(rounds)):
        model.predict(picture, verbose=False, imgsz=640)
    print(json.dumps((time.process_time() - began) / int(rounds)), flush=True)
"""


def write_model(path: Path, *, convolutions: int) -> None:
    """Write the model in ONNX: raw layout, one class, one candidate."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(value: Any, dtype: Any = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(constants)}"))
        return f"c{len(constants) - 1}"

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    channels = [
        node("Slice", "images", constant([i], np.int64), constant([i + 1], np.int64), constant([1], np.int64))
        for i in range(3)
    ]
    red = node("Greater", channels[0], constant(0.6))
    for other in channels[1:]:
        red = node("And", red, node("Less", other, constant(0.4)))
    mask = node("Cast", red, to=TensorProto.FLOAT)
    ends = {}
    for axis, index in (("x", np.arange(SIDE)), ("y", np.arange(SIDE)[:, None])):
        line = node("Mul", mask, constant(index + 1))
        ends[axis + "2"] = node("ReduceMax", line, constant([1, 2, 3], np.int64), keepdims=0)
        back = node("ReduceMax", node("Mul", mask, constant(SIDE - index)), constant([1, 2, 3], np.int64), keepdims=0)
        ends[axis + "1"] = node("Sub", constant(SIDE), back)
    columns = []
    for axis in "xy":
        columns.append(node("Mul", node("Add", ends[axis + "1"], ends[axis + "2"]), constant(0.5)))
    columns += [node("Sub", ends[axis + "2"], ends[axis + "1"]) for axis in "xy"]
    values = "images"
    for number in range(convolutions):
        weights = np.random.default_rng(number).normal(0, 0.1, (16, 3 if number == 0 else 16, 3, 3))
        strides = [2, 2] if number < 2 else [1, 1]
        values = node("Relu", node("Conv", values, constant(weights), pads=[1, 1, 1, 1], strides=strides))
    unused = node("Mul", node("ReduceMax", values, constant([1, 2, 3], np.int64), keepdims=0), constant(0))
    score = node("Add", unused, constant(0.9))
    rows = [node("Unsqueeze", each, constant([1, 2], np.int64)) for each in (*columns, score)]
    table = node("Concat", *rows, axis=1)
    nodes.append(helper.make_node("Pad", [table, constant([0, 0, 0, 0, 0, CELLS - 1], np.int64)], ["output0"]))
    graph = helper.make_graph(
        nodes, MODEL, [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 5, CELLS])], constants,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = {
        "task": "detect", "names": "{0: 'red'}", "imgsz": f"[{SIDE}, {SIDE}]", "stride": "32", "end2end": "False",
        "batch": "1", "channels": "3",
    }  # fmt: skip
    for key, value in metadata.items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(made, path)


def write_picture(path: Path) -> None:
    """Write clouds with the box in them: as large as a photograph is, and as easy to compress."""
    random = np.random.default_rng(0)
    clouds = Image.fromarray(random.integers(0, 90, (54, 96, 3), np.uint8)).resize((1920, 1080))
    pixels = np.asarray(clouds) + random.integers(0, 8, (1080, 1920, 1), np.uint8)
    x1, y1, x2, y2 = BOX
    pixels[y1:y2, x1:x2] = (255, 0, 0)
    Image.fromarray(pixels).save(path, quality=92, subsampling=0)


class Ultralytics:
    """ultralytics' client in a process of its own, asked for one round at a time."""

    def __init__(self, python: Path, url: str, picture: Path, pictures: int) -> None:
        command = [str(python), "-c", _ULTRALYTICS, url, str(picture), str(pictures)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"},
        )  # fmt: skip
        self.boxes = self._read()

    def round(self) -> float:
        """Return seconds of CPU for a picture."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("[", "0.", "1", "2")) and "{" not in line:
                return json.loads(line)
        raise RuntimeError("ultralytics ended; run it by hand to see why")


@contextmanager
def served(repository: Path) -> Iterator[str]:
    """Serve the models; by a process of its own, for whoever watches over a server uses processor time too."""
    command = [sys.executable, "-m", "worker_adapter", "triton", "--model-repository", str(repository), "--json"]
    server = subprocess.Popen([*command, "--startup-timeout", "180"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["grpc_url"]
    finally:
        server.terminate()
        server.communicate(timeout=30)


def ultralytics_python() -> Path | str:
    """Return its Python, or why there is none."""
    if named := os.environ.get("ULTRALYTICS_PYTHON"):
        return Path(named)
    return "set ULTRALYTICS_PYTHON to a Python that has ultralytics, torch, torchvision and tritonclient[all]"


def letterbox_ms(width: int, height: int) -> float:
    """Return the CPU of placing a picture of that size into 640."""
    picture = Picture(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
    placement = place(width, height, SIDE, SIDE, "letterbox")
    # What is only picked out of the picture is copied, too, as it will be.
    return median(_cpu_ms(lambda: np.ascontiguousarray(put(picture, placement))) for _ in range(15))


def suppression_ms() -> float:
    random = np.random.default_rng(2)
    corners = random.uniform(0, SIDE, (CELLS, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 200, (CELLS, 2))], axis=1).astype(np.float32)
    scores, classes = random.uniform(0.0001, 1, CELLS).astype(np.float32), random.integers(0, 80, CELLS)
    return median(_cpu_ms(lambda: suppress(boxes, scores, classes, iou=0.7, most=300)) for _ in range(9))


def _cpu_ms(work: Callable[[], Any]) -> float:
    began = process_time()
    work()
    return (process_time() - began) * 1e3


async def measure(url: str, picture: Path, python: Path | str, arguments: Any) -> dict[str, Any]:
    settings = DetectionSettings.make(model=MODEL, max_in_flight=IN_FLIGHT)
    async with TritonAdapter(TritonSettings(url=url)) as adapter:
        client = DetectionClient(adapter, settings)
        first = await client.detect(picture)
        (found,) = first.detections
        result: dict[str, Any] = {
            "agreement_px": max(abs(one - other) for one, other in zip(found.box, BOX, strict=True)),
            "letterbox_ms": letterbox_ms(1920, 1080),
            "letterbox_mixed_ms": letterbox_ms(1918, 1078),
            "suppression_ms": suppression_ms(),
        }
        await _compare_cpu(client, url, picture, python, arguments, result)
        plan = Plan(await adapter.model_props(MODEL), settings)
        tensors, _ = plan.place(open_picture(picture))

        async def raw() -> None:
            gate = asyncio.Semaphore(IN_FLIGHT)

            async def one() -> None:
                async with gate:
                    await adapter.infer(InferRequest(model=MODEL, inputs=tensors))

            await asyncio.gather(*(one() for _ in range(arguments.batch)))

        async def detect() -> None:
            found = await client.detect_batch([picture] * arguments.batch)
            assert all(isinstance(each, DetectionResult) for each in found)

        # By turns, and each first as often as second: a machine that others use too is never the same twice.
        times: dict[str, float] = {"infer": 0.0, "detect_batch": 0.0}
        work = {"infer": raw, "detect_batch": detect}
        turns = [*work, *reversed(work)] * arguments.rounds
        for name in turns:
            times[name] += await _wall_s(work[name])
        pictures = arguments.batch * len(turns) / 2
        result["pictures_per_s"] = {name: pictures / spent for name, spent in times.items()}
        result["throughput_ratio"] = times["infer"] / times["detect_batch"]
    return result


async def _compare_cpu(
    client: DetectionClient, url: str, picture: Path, python: Path | str, arguments: Any, result: dict[str, Any]
) -> None:
    async def ours() -> float:
        began = process_time()
        for _ in range(arguments.pictures):
            await client.detect(picture)
        return (process_time() - began) / arguments.pictures

    if isinstance(python, str):
        result["skipped"] = python
        result["cpu_ms"] = {"detect": median([await ours() for _ in range(arguments.rounds)]) * 1e3}
        return
    with closing(Ultralytics(python, f"{url}/{MODEL}", picture, arguments.pictures)) as other:
        rounds = [(await ours(), other.round()) for _ in range(arguments.rounds)]
        result["ultralytics_boxes"] = other.boxes
    result["cpu_ms"] = {
        "detect": median(mine for mine, _ in rounds) * 1e3, "ultralytics": median(its for _, its in rounds) * 1e3,
    }  # fmt: skip
    result["cpu_ratio"] = median(mine / its for mine, its in rounds)


async def _wall_s(work: Callable[[], Awaitable[None]]) -> float:
    began = perf_counter()
    await work()
    return perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=20, help="of a round, one after the other")
    parser.add_argument("--batch", type=int, default=64, help="of a turn, 8 in flight")
    parser.add_argument("--convolutions", type=int, default=60, help="how much the model computes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, picture = Path(folder) / f"{MODEL}.onnx", Path(folder) / "picture.jpg"
        write_model(file, convolutions=arguments.convolutions)
        write_picture(picture)
        prepare_onnx(file, Path(folder) / "models")
        with served(Path(folder) / "models") as url:
            result = asyncio.run(measure(url, picture, ultralytics_python(), arguments))
    if arguments.json:
        print(json.dumps(result))
        return
    cpu, rates = result["cpu_ms"], result["pictures_per_s"]
    print(f"boxes off by                 {result['agreement_px']:8.4f} px   (goal 0.01)")
    print(f"letterbox 1080p to 640       {result['letterbox_ms']:8.1f} ms   (goal 30)")
    print(f"letterbox 1918 x 1078 to 640 {result['letterbox_mixed_ms']:8.1f} ms   (goal 30; each pixel mixed of four)")
    print(f"suppression of 8,400         {result['suppression_ms']:8.1f} ms   (goal 250)")
    print(f"CPU a picture, detect        {cpu['detect']:8.1f} ms")
    if "skipped" in result:
        print(f"CPU a picture, ultralytics   skipped: {result['skipped']}")
    else:
        print(f"CPU a picture, ultralytics   {cpu['ultralytics']:8.1f} ms")
        print(f"ratio                        {result['cpu_ratio']:8.2f}      (goal 0.6)")
    print(f"pictures/s, infer            {rates['infer']:8.2f}")
    print(f"pictures/s, detect_batch     {rates['detect_batch']:8.2f}")
    print(f"ratio                        {result['throughput_ratio']:8.3f}      (goal 0.95)")


if __name__ == "__main__":
    main()
