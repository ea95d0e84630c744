"""`worker-adapter serve` and `check`, as their users run them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.project.repository import ROOT
from tests.worker_adapter.program import DEADLINE_S, PROGRAM, Running, environment, is_gone, run
from triton_adapter.embedded import EmbeddedTriton
from worker_adapter.commands.rollout import figures

GOOD = """
[server]
port = 0
[[pools]]
adapter = "mock"
[[pools.replicas]]
id = "r0"
options = { reply = "hello there" }
"""


def config(tmp_path: Path, text: str = GOOD) -> str:
    path = tmp_path / "orchestrator.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def post(url: str, body: dict[str, object]) -> str:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as response:
        text: bytes = response.read()
    return text.decode()


def test_check_describes_settings_that_are_good(tmp_path: Path) -> None:
    people, program = run("check", "--config", config(tmp_path)), run("check", "--config", config(tmp_path), "--json")

    assert people.code == 0
    assert "this machine only, no API keys, no TLS" in people.out
    assert program.document["replicas"][0]["adapter"] == "mock"


@pytest.mark.parametrize(
    "more, said",
    [
        ("[log]\nlevle = 1\n", "orchestrator.toml:10: log.levle: unknown key"),
        ('[[pools]]\nid = "b"\nadapter = "acme"\n[[pools.replicas]]\nid = "r1"\n', "no adapter named 'acme'"),
        ('[[pools]]\nid = "b"\nadapter = "mock"\nreplicas = [{ id = "x", options = { nope = 1 } }]\n', "nope"),
        ('[server.tls]\ncertificate = "/nope"\nkey = "/nope"\n', "server.tls.key: /nope is no file"),
        (f'[server.tls]\ncertificate = "{__file__}"\nkey = "{__file__}"\n', "certificate or key cannot be used"),
    ],
)
def test_check_tells_what_is_wrong(tmp_path: Path, more: str, said: str) -> None:
    result = run("check", "--config", config(tmp_path, GOOD.strip() + "\n\n" + more))

    assert result.code == 2
    assert said in result.err.replace(str(tmp_path) + "/", "")


@pytest.mark.spec("ORCH-3073-018")
@pytest.mark.parametrize(
    "call, said",
    [
        ("<function={{ c.function.name }}>{{ c.function.arguments | tojson }}</function>", "the chat template writes"),
        ("!{{ c.function.name }} {{ c.function.arguments.town }}!", "not known; set tool_parser to"),
    ],
)
def test_check_says_how_calls_will_be_told_from_text(tmp_path: Path, call: str, said: str) -> None:
    each = f"{{{{ m.content or '' }}}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}|"
    template = f"{{{{ tools }}}}{{% for m in messages %}}{each}{{% endfor %}}<think>"
    path = config(tmp_path, GOOD.replace('adapter = "mock"', f'adapter = "mock"\nchat_template = "{template}"'))
    people, program = run("check", "--config", path), run("check", "--config", path, "--json")

    assert people.code == 0
    assert said in " ".join(people.out.split())
    (pool,) = program.document["pools"]
    assert said in pool["tool_calls"]
    assert "set reasoning_parser to 'think'" in pool["thoughts"]


@pytest.mark.live
@pytest.mark.spec("ORCH-3075-006")
def test_check_asks_engines_for_the_tensors_of_embeddings(tmp_path: Path, triton: EmbeddedTriton) -> None:
    pool = (
        '[[pools]]\nadapter = "triton"\nembeddings = { input = "%s" }\n'
        f'[[pools.replicas]]\nid = "r0"\nurl = "{triton.grpc_url}"\n'
    )
    good, bad = config(tmp_path, pool % "text"), tmp_path / "bad.toml"
    bad.write_text(pool % "texts" + '[[pools.replicas]]\nid = "r1"\nurl = "grpc://127.0.0.1:9"\n')

    asked, unasked, wrong = (
        run("check", "--engines", "--config", good), run("check", "--config", str(bad)),
        run("check", "--engines", "--config", str(bad)),
    )  # fmt: skip

    assert (asked.code, unasked.code, wrong.code) == (0, 0, 2)
    first, second = wrong.err.splitlines()[1:3]
    assert first.startswith("  replica 'r0' of pool 'default', embeddings: model ")
    assert "by the input 'texts' that its pool's settings name" in first
    assert second.startswith("  replica 'r1' of pool 'default': ")


def test_check_asks_engines_for_the_models_that_a_pool_names(tmp_path: Path) -> None:
    path = config(tmp_path, GOOD.replace('adapter = "mock"', 'adapter = "mock"\nmodels = ["mock", "moc"]'))

    unasked, asked = run("check", "--config", path), run("check", "--engines", "--config", path)

    assert (unasked.code, asked.code) == (0, 2)
    assert "pool 'default', models: no replica has moc; there are mock" in asked.err


MIXED = """
[[pools]]
id = "now"
weight = 3
served_as = { tinylm = "chat" }
[[pools.replicas]]
id = "r0"
url = "mock://a"
[[pools.replicas]]
id = "r1"
adapter = "triton"
url = "http://localhost:8001"
served_as = { "org/model" = ["chat", "code"] }
[[pools]]
id = "next"
weight = 1
adapter = "mock"
replicas = [{ id = "r0" }]
[[pools]]
id = "copy"
adapter = "mock"
shadow_of = "now"
shadow_percent = 20
replicas = [{ id = "r0" }]
"""


@pytest.mark.spec("ORCH-3063-008")
def test_check_shows_traffic_shadows_adapters_and_names(tmp_path: Path) -> None:
    result = run("check", "--config", config(tmp_path, MIXED))

    rows = [" ".join(line.split()) for line in result.out.splitlines()]
    assert result.code == 0
    assert "now 3 75 % of what every pool serves all" in rows
    assert "copy - copies of 20 % of now's, shown to nobody all" in rows
    assert "now r0 mock url tinylm as chat" in rows
    assert "now r1 triton url org/model as chat and code" in rows


@pytest.mark.spec("ORCH-3063-008")
def test_check_tells_each_of_several_faults_on_a_line_of_its_own(tmp_path: Path) -> None:
    faulty = MIXED.replace('"triton"', '"nobody"').replace("mock://a", "nobody://a")
    unknown = MIXED.replace("weight", "wieght")

    cannot, invalid = (run("check", "--config", config(tmp_path, text)) for text in (faulty, unknown))

    assert [line[:24] for line in cannot.err.splitlines()[1:]] == [
        "  replica 'r0' of pool '",
        "  replica 'r1' of pool '",
    ]
    assert [line.endswith("wieght: unknown key") for line in invalid.err.splitlines()] == [False, True, True]


ALL_WRONG = """
[server]
port = "first"
tls = { certificate = "/nope", key = "/nokey" }
[[pools]]
id = "a"
wieght = 3
chat_template = "{% for %}"
[[pools.replicas]]
id = "r0"
adapter = "nobody"
options = { token = { secret_env = "NEVER_SET" } }
[[pools.replicas]]
id = "r1"
adapter = "mock"
options = { nope = 1, also = { secret_file = "/neither" } }
[[pools]]
id = "b"
chat_template = "/nowhere/template"
"""


@pytest.mark.spec("ORCH-3063-001", "ORCH-3063-008")
def test_check_tells_all_that_can_be_found_of_settings_that_are_malformed_as_well(tmp_path: Path) -> None:
    result = run("check", "--config", config(tmp_path, ALL_WRONG), env={"ORCHD_FOO": "1"})

    assert result.code == 2
    found = result.err.replace(str(tmp_path), "")
    for said in (
        "variable ORCHD_FOO names no setting",
        "/orchestrator.toml:12: pools.0.replicas.0.options.token: the secret is in environment variable NEVER_SET",
        "/orchestrator.toml:16: pools.0.replicas.1.options.also: the secret is in file /neither, which cannot be read",
        "/orchestrator.toml:3: server.port: ",
        "/orchestrator.toml:7: pools.0.wieght: unknown key",
        "/orchestrator.toml:17: pools.1.replicas: Field required",
        "pool 'a', chat_template: ",
        "pool 'b', chat_template: ",
        "replica 'r0' of pool 'a': no adapter named 'nobody'",
        "replica 'r1' of pool 'a': invalid options for adapter 'mock': ",
        "server.tls.certificate: /nope is no file",
        "server.tls.key: /nokey is no file",
    ):
        assert found.count(said) == 1


def test_settings_from_nowhere_are_told(tmp_path: Path) -> None:
    result = run("check", "--config", str(tmp_path / "none.toml"))

    assert result.code == 2
    assert "No such file" in result.err


def test_serve_answers_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with Running("serve", "--config", config(tmp_path), "--json") as host:
        ready = json.loads(host.line())
        answer = post(f"{ready['url']}/v2/tasks", {"model": "mock", "prompt": "Hi"})
        host.signal(signal.SIGTERM)
        finished = host.finish()

    assert "hello" in answer
    assert '"finish_reason":"stop"' in answer
    assert (ready["models"], ready["text_models"]) == (["mock"], ["mock"])
    assert finished.code == 0


@pytest.mark.spec("ORCH-3062-023")
def test_where_the_host_is_stands_in_the_log_as_a_record(tmp_path: Path) -> None:
    with Running("serve", "--config", config(tmp_path)) as host:
        log = host.wait_until_it_says('"event":"serving ')
        host.signal(signal.SIGTERM)
        finished = host.finish()

    assert finished.code == 0
    (ready,) = [record for record in map(json.loads, (log + finished.err).splitlines()) if "url" in record]
    assert ready["event"] == f"serving mock on {ready['url']}"
    assert ready["url"].startswith("http://127.0.0.1:")
    assert ready["models"] == ["mock"]
    assert ready["example"].startswith("curl ")


def test_a_log_for_people_tells_them_where_the_host_is(tmp_path: Path) -> None:
    with Running("serve", "--config", config(tmp_path, GOOD + '[log]\nformat = "text"\n')) as host:
        host.wait_until_it_says("; Ctrl-C stops\n  curl ")
        host.signal(signal.SIGTERM)

        assert host.finish().code == 0


def test_a_terminal_shows_where_the_host_is_as_a_line(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [PROGRAM, "serve", "--config", config(tmp_path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=theirs, env=environment({"NO_COLOR": "1"}),
        ) as host:  # fmt: skip
            try:
                said = b""
                while b"curl" not in said:
                    ready, _, _ = select.select([ours], [], [], DEADLINE_S)
                    assert ready, f"the host did not say where it is: {said.decode()}"
                    said += os.read(ours, 65536)
                host.send_signal(signal.SIGTERM)
                assert host.wait(DEADLINE_S) == 0
            finally:
                host.kill()
    finally:
        os.close(ours)
        os.close(theirs)

    assert b"\nserving mock on http://127.0.0.1:" in said
    assert b"; Ctrl-C stops" in said


FULL = Path("/dev/full")
"""A device that takes nothing, as a full disk."""


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("with_json", [True, False], ids=["json", "people"])
def test_serve_goes_on_when_nothing_can_be_written_to_its_log(tmp_path: Path, with_json: bool) -> None:
    port = free_port()
    path = config(tmp_path, GOOD.replace("port = 0", f"port = {port}") + '\n[log]\nlevel = "debug"\n')
    arguments = [PROGRAM, "serve", "--config", path, *(["--json"] if with_json else [])]
    with FULL.open("w") as full, subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=full, stderr=full, env=environment(None)
    ) as host:  # fmt: skip
        try:
            wait_until_open(port)
            answers = [post(f"http://127.0.0.1:{port}/v2/tasks", {"model": "mock", "prompt": "Hi"}) for _ in range(3)]
            host.send_signal(signal.SIGTERM)
            code = host.wait(30)
        finally:
            host.kill()

    assert all('"finish_reason":"stop"' in answer for answer in answers)
    assert code == 0


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_told_as_what_it_is(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        result = subprocess.run(
            [PROGRAM, "check", "--config", config(tmp_path)], stdout=full, stderr=subprocess.PIPE, text=True,
            env=environment(None), timeout=60, check=False,
        )  # fmt: skip

    assert result.returncode == 1
    assert result.stderr == "error: cannot write the output: No space left on device\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the host does not listen"
            time.sleep(0.05)  # it tells nobody when it does: that is the point


def test_serve_is_one_process_and_says_where_to_go_for_more(tmp_path: Path) -> None:
    result = run("serve", "--config", config(tmp_path), "--workers", "2")

    assert result.code == 2
    assert "Dynamo" in result.err


def ran_from_the_page(language: str, url: str) -> str:
    """Run what docs/openai.md shows of tools, but for the host's address."""
    section = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8").split("## Tools and thoughts")[1]
    code = section.split(f"```{language}\n")[1].split("```")[0].replace("http://127.0.0.1:8080", url)
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-c", code.replace("curl", "curl -s")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.live
def test_serve_brings_an_engine_of_its_own_and_takes_it_away_again() -> None:
    with Running("serve", "--embedded", "--port", "0", "--json") as host:
        ready = json.loads(host.line())
        task = {"model": "tinylm", "prompt": "Hello", "max_tokens": 4, "seed": 1}
        first, second = (post(f"{ready['url']}/v2/tasks", task) for _ in range(2))
        shown = [ran_from_the_page(language, ready["url"]) for language in ("python", "bash")]
        host.signal(signal.SIGINT)
        finished = host.finish()
    log = [json.loads(line) for line in finished.err.splitlines()]

    def tokens(answer: str) -> list[str]:
        return [line for line in answer.splitlines() if '"type":"token"' in line]

    assert len(tokens(first)) == 4
    assert tokens(first) == tokens(second)
    assert shown[0] == 'get_weather {"town": "Oslo"}\nThe answer is rain.\n'
    assert json.loads(shown[1])["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert finished.code == 0
    assert {record["logger"] for record in log if "loading " in record["event"]} == {"worker_adapter.serve"}
    assert is_gone(ready["pid"])


BESIDE_ANOTHER = GOOD.replace("[[pools]]", '[[pools]]\nid = "other"')
"""Settings that leave the pool `default` to an engine of the host's own."""


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are there."""
    listings = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for listing in listings for child in listing.split()]


@pytest.mark.live
def test_serve_tells_that_its_own_engine_ended_and_serves_the_others(tmp_path: Path) -> None:
    with Running("serve", "--embedded", "--config", config(tmp_path, BESIDE_ANOTHER), "--json") as host:
        ready = json.loads(host.line())
        (server,) = [each for child in children(ready["pid"]) for each in children(child)]
        os.kill(server, signal.SIGKILL)
        log = host.wait_until_it_says('"event":"the embedded engine ended by itself')
        answer = post(f"{ready['url']}/v2/tasks", {"model": "mock", "prompt": "Hi"})
        host.signal(signal.SIGTERM)
        finished = host.finish()

    (told,) = [each for each in map(json.loads, (log + finished.err).splitlines()) if "engine_log" in each]
    assert told["level"] == "error"
    assert "start this host again" in told["event"]
    assert any("Started GRPCInferenceService" in line for line in told["engine_log"])
    assert '"finish_reason":"stop"' in answer
    assert finished.code == 0


@pytest.mark.parametrize(
    "more, setting, named",
    [
        ([], "port", "--port, ORCHD_PORT or server.port"),
        ([], "admin_port", "ORCHD_SERVER__ADMIN_PORT or server.admin_port"),
        (["--embedded"], "port", "--port, ORCHD_PORT or server.port"),
    ],
    ids=["tasks", "operations", "embedded"],
)
def test_a_port_that_is_taken_is_told_with_what_chooses_it_and_before_an_engine_starts(
    tmp_path: Path, more: list[str], setting: str, named: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = f"port = {port}" if setting == "port" else f"port = 0\nadmin_port = {port}"
        path = config(tmp_path, BESIDE_ANOTHER.replace("port = 0", server))
        result = run("serve", "--config", path, *more)

    assert result.code == 2
    assert result.err == (
        f"error[invalid_configuration]: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        f"choose another port with {named}, 0 for any\n"
    )


def test_rollout_alone_says_what_is_missing() -> None:
    result = run("rollout")

    assert result.code == 2
    assert "name one of its commands; `worker-adapter rollout --help` shows what there is" in result.err


def test_rollout_report_compares_the_pools_of_a_running_host(tmp_path: Path) -> None:
    shadow = '\n[[pools]]\nid = "twin"\nadapter = "mock"\nshadow_of = "default"\n[[pools.replicas]]\nid = "r0"\n'
    with Running("serve", "--config", config(tmp_path, GOOD + shadow), "--json") as host:
        url = json.loads(host.line())["url"]
        post(f"{url}/v2/tasks", {"model": "mock", "prompt": "Hi"})
        page = tmp_path / "report.html"
        people, program = run("rollout", "report", "--url", url), run("rollout", "report", "--url", url, "--json")
        written = run("rollout", "report", "--url", url, "--html", str(page))
        host.signal(signal.SIGTERM)
        host.finish()

    assert "twin as shadow of default" in people.out
    assert [pool["pool_id"] for pool in program.document["pools"]] == ["default", "twin"]
    assert written.code == 0
    assert 'class="bars"' in page.read_text()


@pytest.mark.parametrize("url, code", [("http://127.0.0.1:1", 3), ("grpc://x", 2)])
def test_a_host_that_is_not_there_is_told(url: str, code: int) -> None:
    result = run("rollout", "report", "--url", url)

    assert result.code == code
    assert "Traceback" not in result.err


def test_large_figures_of_the_rollout_report_are_written_out() -> None:
    assert figures({"count": 3, "p50": 0.4175, "p90": 999.6, "p99": 12124.3}) == "0.417 / 1000 / 12124"
    assert figures({"count": 0, "p50": None, "p90": None, "p99": None}) == ""
