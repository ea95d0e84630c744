"""The files for containers and clusters in `deploy/`: what can be seen to be right of them without an engine of either.

`deploy/README.md` says what was tried by hand beside this, and what was not.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from google.protobuf import text_format

from adapter_api import load_plugins
from adapter_clients import DetectionClient, DetectionResult
from orchestrator.check import check_settings
from orchestrator.config import HostSettings, load_settings
from orchestrator.http.app import FACES
from orchestrator.serve import serving
from tests.programs import needs
from tests.project.repository import ROOT
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.wire import v2_pb2 as v2

DEPLOY = ROOT / "deploy"
COMPOSE, CHAT, KUBERNETES, MODELS = (
    DEPLOY / "compose",
    DEPLOY / "compose" / "chat",
    DEPLOY / "kubernetes",
    DEPLOY / "models",
)
HOSTS = (COMPOSE / "orchestrator.toml", CHAT / "orchestrator.toml", KUBERNETES / "orchestrator.toml")
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
SETTINGS_IN_IMAGE = "/etc/worker-adapter/orchestrator.toml"
OPEN = {route.path for router in FACES[:1] for route in router.routes}  # type: ignore[attr-defined]


class _Yaml(yaml.SafeLoader):
    """Knows compose's `!override`."""


def _override(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return list(loader.construct_sequence(node, deep=True))


_Yaml.add_constructor("!override", _override)


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.load_all(path.read_text("utf-8"), _Yaml) if each]


def services(folder: Path) -> dict[str, Any]:
    (found,) = documents(folder / "compose.yml")
    return dict(found["services"])


def manifests() -> list[dict[str, Any]]:
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    return [each for name in kustomization["resources"] for each in documents(KUBERNETES / name)]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.spec("ORCH-3063-001")
@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.parent.name)
def test_each_host_can_be_served_with_its_settings(path: Path) -> None:
    plugins = load_plugins()
    loaded = load_settings(path, {}, adapters=[adapter.name for adapter in plugins.adapters])

    assert check_settings(loaded, plugins).replicas


@pytest.mark.anyio
@pytest.mark.parametrize("path", [COMPOSE / "orchestrator.toml", KUBERNETES / "orchestrator.toml"])
async def test_a_host_without_its_engines_lives_and_is_not_ready_as_its_probes_want(path: Path) -> None:
    plugins = load_plugins()
    loaded = load_settings(path, {}, adapters=[adapter.name for adapter in plugins.adapters]).settings
    server = loaded.server.model_copy(update={"host": "127.0.0.1", "port": 0, "admin_port": 0, "shutdown_grace_s": 1})
    settings = HostSettings.model_validate(
        loaded.model_copy(update={"server": server, "read_environment": False}).model_dump()
    )
    probes = {url["path"] for url in _probes(named("Deployment", "host"))}

    async with serving(settings, plugins=plugins) as host, httpx.AsyncClient(trust_env=False) as client:
        found = {probe: (await client.get(f"{host.ready.url}{probe}")).status_code for probe in probes}

    assert found == {"/livez": 200, "/readyz": 503}


def _probes(workload: dict[str, Any]) -> list[dict[str, Any]]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]


@pytest.mark.parametrize("folder", [COMPOSE, CHAT], ids=lambda folder: folder.name)
def test_every_file_that_a_container_mounts_is_there_and_is_read_only(folder: Path) -> None:
    for name, service in services(folder).items():
        for volume in service.get("volumes", ()):
            source, _, mode = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).partition(":")
            if source.startswith("."):
                assert (folder / source).exists(), f"{name}: {source}"
                assert mode.endswith(":ro"), f"{name}: {volume}"


@pytest.mark.parametrize("folder", [COMPOSE, CHAT], ids=lambda folder: folder.name)
def test_no_port_is_open_to_other_machines(folder: Path) -> None:
    ports = [port for service in services(folder).values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_triton_has_a_gpu_and_its_three_ports_and_the_host_finds_it_there() -> None:
    triton = services(COMPOSE)["triton"]
    (pool,) = load_settings(COMPOSE / "orchestrator.toml", {}, adapters=["triton"]).settings.pools

    assert triton["ports"] == [f"127.0.0.1:{port}:{port}" for port in PORTS.values()]
    assert triton["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert [replica.options["url"] for replica in pool.replicas] == [f"grpc://triton:{PORTS['grpc']}"]
    assert [replica.metrics_url for replica in pool.replicas] == [f"http://triton:{PORTS['metrics']}/metrics"]


def test_the_image_starts_the_host_with_the_file_that_containers_mount_and_without_root() -> None:
    image = (DEPLOY / "Dockerfile").read_text("utf-8")
    pod = named("Deployment", "host")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert f'CMD ["serve", "--config", "{SETTINGS_IN_IMAGE}"]' in image
    assert f"USER {pod['securityContext']['runAsUser']}:" in image
    assert container["args"] == ["serve", "--config", SETTINGS_IN_IMAGE]
    assert {re.search(r"localhost|127\.0\.0\.1:8080(/\w+)", image)[1]} <= OPEN  # type: ignore[index]
    for folder, host in ((COMPOSE, "host"), (CHAT, "front")):
        assert f"./orchestrator.toml:{SETTINGS_IN_IMAGE}:ro" in services(folder)[host]["volumes"]


def test_the_image_is_made_of_every_package_of_the_wheel() -> None:
    import fnmatch
    import tomllib

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8")
    taken = [line[1:] for line in ignored.splitlines() if line.startswith("!")]

    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in taken) for name in packages["packages"])


def test_probes_ask_what_the_servers_have_and_workers_get_the_time_they_need() -> None:
    triton, host = named("StatefulSet", "triton"), named("Deployment", "host")
    settings = load_settings(KUBERNETES / "orchestrator.toml", {}, adapters=["triton"]).settings

    assert {probe["path"] for probe in _probes(host)} <= OPEN
    assert {probe["path"] for probe in _probes(triton)} == {"/v2/health/live", "/v2/health/ready"}
    grace = host["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.server.shutdown_grace_s


def test_services_lead_to_pods_and_ports_there_are_and_the_host_to_each_triton_by_name() -> None:
    workloads = [each for each in manifests() if each["kind"] in ("Deployment", "StatefulSet")]
    pods = {json.dumps(each["spec"]["template"]["metadata"]["labels"]): each for each in workloads}
    for service in (each for each in manifests() if each["kind"] == "Service"):
        workload = pods[json.dumps(service["spec"]["selector"])]
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        known = {key for port in container["ports"] for key in (port["name"], port["containerPort"])}
        assert {port.get("targetPort", port["port"]) for port in service["spec"]["ports"]} <= known

    triton = named("StatefulSet", "triton")
    (pool,) = load_settings(KUBERNETES / "orchestrator.toml", {}, adapters=["triton"]).settings.pools
    assert [replica.options["url"] for replica in pool.replicas] == [
        f"grpc://triton-{n}.{triton['spec']['serviceName']}:{PORTS['grpc']}" for n in range(triton["spec"]["replicas"])
    ]


def test_what_is_mounted_into_a_pod_is_a_volume_of_it() -> None:
    for workload in (named("StatefulSet", "triton"), named("Deployment", "host")):
        pod = workload["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {
            mount["name"]
            for container in (*pod["containers"], *pod.get("initContainers", ()))
            for mount in container["volumeMounts"]
        }
        assert mounts == volumes


@needs("kubectl")
def test_kustomize_puts_the_manifests_together() -> None:
    made = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, timeout=60, check=False)

    assert made.returncode == 0, made.stderr
    found = [each for each in yaml.safe_load_all(made.stdout) if each]
    assert {each["metadata"].get("namespace", "worker-adapter") for each in found} == {"worker-adapter"}
    assert sum(each["kind"] == "ConfigMap" for each in found) == 1


@needs("promtool")
def test_prometheus_accepts_its_settings_with_the_alerts_beside_them(tmp_path: Path) -> None:
    for file in (COMPOSE / "prometheus.yml", DEPLOY / "alerts.yml"):
        shutil.copy(file, tmp_path)

    checked = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert 'job="worker-adapter"' in (DEPLOY / "alerts.yml").read_text("utf-8")
    (settings,) = documents(COMPOSE / "prometheus.yml")
    assert [each["job_name"] for each in settings["scrape_configs"]] == ["worker-adapter"]


def test_grafana_is_provisioned_with_the_dashboard_where_it_is_mounted() -> None:
    provisioning = COMPOSE / "grafana" / "provisioning"
    (dashboards,) = documents(provisioning / "dashboards" / "worker-adapter.yml")
    (sources,) = documents(provisioning / "datasources" / "prometheus.yml")
    mounted = [volume.split(":")[1] for volume in services(COMPOSE)["grafana"]["volumes"]]

    folder = dashboards["providers"][0]["options"]["path"]
    assert any(target.startswith(f"{folder}/") and target.endswith(".json") for target in mounted)
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"


CONFIGURATIONS = sorted(path.parent.name for path in MODELS.glob("*/config.pbtxt"))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_models_configuration_names_itself_as_its_folder_and_a_backend(name: str) -> None:
    text = (MODELS / name / "config.pbtxt").read_text("utf-8")

    # The part of a configuration that the adapter looks at.
    config = text_format.Parse(text, v2.ModelConfig(), allow_unknown_field=True)

    assert config.name in ("", name)
    assert config.backend in ("vllm", "python", "tensorrt")
    for arguments in (MODELS / name).glob("1/model.json"):
        assert json.loads(arguments.read_text("utf-8"))["model"]


STAND_IN = """\
class TritonPythonModel:
    def execute(self, requests):
        return [None for _ in requests]
"""


@pytest.mark.live
@pytest.mark.long  # a server of its own; test_a_models_configuration_… reads most of it without one
def test_a_real_triton_finds_nothing_wrong_with_the_configurations_but_backends_it_has_not(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(MODELS, repository, ignore=shutil.ignore_patterns("*.md"))
    (repository / "yolo-tensorrt" / "1").mkdir()
    (repository / "tensorrt-llm" / "1" / "model.py").write_text(STAND_IN)
    (repository / "misspelt" / "1").mkdir(parents=True)
    (repository / "misspelt" / "config.pbtxt").write_text('backend: "vllm"\ninstance_grop [ { count: 1 } ]\n')

    said: dict[str, str] = {}
    with EmbeddedTriton(model_repository=repository, model_control_mode="explicit") as server:
        for name in (*CONFIGURATIONS, "misspelt"):
            url = f"{server.http_url}/v2/repository/models/{name}/load"
            try:
                urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"), timeout=60)
            except urllib.error.HTTPError as refused:
                said[name] = refused.read().decode()

    assert "failed to poll" in said.pop("misspelt"), "it tells a wrong configuration from a missing backend"
    assert set(said) == set(CONFIGURATIONS) - {"tensorrt-llm"}
    assert all("unable to find backend library" in text for text in said.values()), said


FINDS_A_BICYCLE = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self._rows = {rows}

    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(each, "images").as_numpy()) for each in requests]

    def _answer(self, images):
        found = np.zeros((len(images), self._rows, 8400), np.float32)
        found[:, :4, 7] = 320, 240, 100, 50
        found[:, 5, 7] = 0.9
        return pb_utils.InferenceResponse([pb_utils.Tensor("output0", found)])
"""


@pytest.mark.live
@pytest.mark.long  # a server of its own
@pytest.mark.anyio
async def test_the_detectors_configuration_serves_with_a_backend_that_is_there_and_names_what_is_found(
    tmp_path: Path,
) -> None:
    text = (MODELS / "yolo-tensorrt" / "config.pbtxt").read_text("utf-8")
    (rows,) = re.findall(r'name: "output0".*dims: \[ (\d+), 8400 \]', text)
    folder = tmp_path / "models" / "yolo-tensorrt"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(FINDS_A_BICYCLE.replace("{rows}", rows))
    # All but the engine itself: batching, queue, warm-up, what a client has to be told.
    (folder / "config.pbtxt").write_text(text.replace('"tensorrt"', '"python"').replace("KIND_GPU", "KIND_CPU"))

    with EmbeddedTriton(model_repository=tmp_path / "models") as server:
        async with DetectionClient.connect(server.grpc_url, model="yolo-tensorrt") as client:
            results = await client.detect_batch([np.zeros((640, 640, 3), np.uint8)] * 8)

    for result in results:
        assert isinstance(result, DetectionResult)
        assert [(each.class_name, tuple(each.box)) for each in result.detections] == [("bicycle", (270, 215, 370, 265))]
