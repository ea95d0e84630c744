"""Programs with a command line: one for the terminal, two benchmarks, two gateways put in front of the host."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.orchestrator.real_clients.shop import HERE, MODEL, TWO_STEPS, Shop, drive, needs_client, program, run

pytestmark = [pytest.mark.long, pytest.mark.live]

_STARTS_S = 240.0


@pytest.fixture
def llm(shop: Shop, tmp_path: Path) -> Any:
    """Runs `llm`, which knows the host's model as `ours`."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {shop.url}/v1\n  api_key_name: ours\n"
        "  supports_tools: true\n  supports_schema: true\n"
    )
    (tmp_path / "keys.json").write_text(json.dumps({"ours": shop.key}))
    env = shop.environment(LLM_USER_PATH=str(tmp_path))
    return lambda *arguments: run(program("llm", "llm"), "-m", "ours", *arguments, env=env, folder=tmp_path).strip()


@pytest.mark.spec("ORCH-3073-006")
@needs_client("llm")
def test_llm_asks_streams_calls_tools_and_keeps_a_schema(llm: Any) -> None:
    tools = ["--functions", str(HERE / "drivers" / "shop_tools.py")]
    question = "Look up the price of a lamp, then multiply it by 3."

    assert llm("Please count to 12") == " ".join(map(str, range(1, 13)))
    assert llm("--no-stream", "Please count to 12") == " ".join(map(str, range(1, 13)))
    assert llm(*tools, question) == llm("--no-stream", *tools, question) == "The answer is 37.5."
    assert json.loads(llm("--schema", "name, age int", "John Doe is 25 years old.")) == {"name": "John Doe", "age": 25}


def tokenizer(client: str, folder: Path, env: Mapping[str, str]) -> str:
    made = folder / "tokenizer"
    run(program(client), str(HERE / "drivers" / "make_tokenizer.py"), str(made), env=env, folder=folder)
    return str(made)


@pytest.mark.spec("ORCH-3073-011")
@needs_client("guidellm")
def test_guidellm_measures_texts_of_the_length_that_it_asks_for(shop: Shop, tmp_path: Path) -> None:
    env = shop.environment(HF_HUB_OFFLINE="1")
    target = f"kind=openai_http,target={shop.url},api_key={shop.key}"

    run(
        program("guidellm", "guidellm"), "run", "--backend", target, "--disable-progress",
        "--data", "kind=synthetic_text,prompt_tokens=64,output_tokens=16",
        "--tokenizer", f"kind=huggingface_auto,model={tokenizer('guidellm', tmp_path, env)}",
        "--profile", "kind=concurrent,streams=4", "--constraint", "kind=max_requests,count=12",
        env=env, folder=tmp_path,
    )  # fmt: skip

    [report] = json.loads((tmp_path / "benchmarks.json").read_text())["benchmarks"]
    requests = report["requests"]
    assert (len(requests["successful"]), requests["errored"], requests["incomplete"]) == (12, [], [])
    assert {request["output_metrics"]["text_tokens"] for request in requests["successful"]} == {16}


@pytest.mark.spec("ORCH-3073-011")
@needs_client("aiperf")
def test_aiperf_measures_texts_of_the_length_that_it_asks_for(shop: Shop, tmp_path: Path) -> None:
    env = shop.environment()

    run(
        program("aiperf", "aiperf"), "profile", "-m", MODEL, "--endpoint-type", "chat", "--streaming", "-u", shop.url,
        "--api-key", shop.key, "--tokenizer", tokenizer("aiperf", tmp_path, env), "--request-count", "10",
        "--concurrency", "2", "--isl", "50", "--osl", "20", "--extra-inputs", "ignore_eos:true",
        "--use-server-token-count", "--ui", "none", "--output-artifact-dir", str(tmp_path / "found"),
        env=env, folder=tmp_path,
    )  # fmt: skip

    [report] = [json.loads(each.read_text()) for each in (tmp_path / "found").rglob("profile_export_aiperf.json")]
    assert report["request_count"]["avg"] == 10
    assert not (report.get("error_request_count") or {}).get("avg")
    assert report["output_sequence_length"]["min"] == report["output_sequence_length"]["max"] == 20


@contextmanager
def gateway(*command: str, port: int, probe: str, env: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run a gateway until the block ends; it begins when the gateway answers its probe."""
    url = f"http://127.0.0.1:{port}"
    with (folder / "gateway.log").open("w") as log:
        running = subprocess.Popen(command, env=dict(env), cwd=folder, stdout=log, stderr=log)
        try:
            _until_ready(running, f"{url}{probe}", folder / "gateway.log")
            yield url
        finally:
            running.terminate()
            running.wait(30)


def _until_ready(running: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_S
    while True:
        assert running.poll() is None, f"it ended:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"it did not start in time:\n{log.read_text()[-3000:]}"
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)  # another process tells of no event


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def through(url: str, shop: Shop, folder: Path, key: str) -> None:
    """OpenAI's library finds through a gateway what it finds here."""
    cancelled = shop.tasks("cancelled")
    env = shop.environment(OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY=key)
    wanted = ("chat", "stream", "tools", "forced", "parsed", "cancel")

    seen = drive("openai", "openai_python.py", MODEL, *wanted, env=env, folder=folder)

    assert seen["chat"]["finish"] == "stop"
    assert seen["stream"] == {"text": " ".join(map(str, range(1, 31))), "pieces": 30}
    assert seen["tools"] == {"text": "The answer is 37.5.", "called": TWO_STEPS}
    assert seen["forced"]["named"] == [["multiply", {"a": 2, "b": 3}]]
    assert seen["parsed"] == {"name": "John Doe", "age": 25}
    shop.wait_until_idle()
    assert shop.tasks("cancelled") == cancelled + 1


@pytest.mark.spec("ORCH-3073-006", "ORCH-3073-012")
@needs_client("openai")
@needs_client("smg")
def test_smg_serves_the_hosts_models(shop: Shop, tmp_path: Path) -> None:
    port, metrics = free_port(), free_port()
    command = [
        program("smg", "smg"), "launch", "--host", "127.0.0.1", "--port", str(port), "--worker-urls", shop.url,
        "--api-key", shop.key, "--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics),
    ]  # fmt: skip
    with gateway(*command, port=port, probe="/readiness", env=shop.environment(), folder=tmp_path) as url:
        through(url, shop, tmp_path, shop.key)


@pytest.mark.spec("ORCH-3073-006", "ORCH-3073-012")
@needs_client("openai")
@needs_client("litellm-proxy")
def test_litellms_proxy_serves_the_hosts_models(shop: Shop, tmp_path: Path) -> None:
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    given = {"model": f"hosted_vllm/{MODEL}", "api_base": f"{shop.url}/v1", "api_key": shop.key}
    # JSON is YAML.
    config = {"model_list": [{"model_name": MODEL, "litellm_params": given}], "litellm_settings": {"telemetry": False}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    env = shop.environment(LITELLM_MASTER_KEY=key)
    command = [
        program("litellm-proxy", "litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with gateway(*command, port=port, probe="/health/readiness", env=env, folder=tmp_path) as url:
        through(url, shop, tmp_path, key)
