"""Settings from file and environment, and what is said about those that are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from adapter_api import ConfigurationError, load_plugins
from orchestrator.check import check_settings
from orchestrator.config import Loaded, load_settings

POOL = '[[pools]]\nadapter = "mock"\n[[pools.replicas]]\nid = "r0"\n'


def load(tmp_path: Path, text: str | None = None, **environ: str) -> Loaded:
    path = None
    if text is not None:
        path = tmp_path / "orchestrator.toml"
        path.write_text(text, encoding="utf-8")
    return load_settings(path, environ, adapters=["mock", "triton"])


def fault(tmp_path: Path, text: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text, **(environ or {}))
    return refused.value.message.replace(str(tmp_path), "")


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    settings = load(tmp_path, POOL).settings

    assert settings.pools[0].id == "default"
    assert settings.server.host == "127.0.0.1"
    assert settings.server.is_loopback


@pytest.mark.spec("ORCH-3063-001")
@pytest.mark.parametrize(
    "text, place",
    [
        (POOL + "[server]\nprot = 1\n", "/orchestrator.toml:6: server.prot: unknown key"),
        (POOL + '\n[server.limits]\nmax_body = 1 # "x"\n', "/orchestrator.toml:7: server.limits.max_body: unknown key"),
        (POOL + "option = 5\n", "/orchestrator.toml:5: pools.0.replicas.0.option: unknown key"),
        (POOL + '[[pools]]\nid="b"\nqueue.limt = 3\n', "/orchestrator.toml:7: pools.1.queue.limt: unknown key"),
        (POOL + "[pools.queue]\nlimit = -1\n", "/orchestrator.toml:6: pools.0.queue.limit: Input should be"),
        (POOL + '[[pools.replicas]]\nid = "r1"\nslots = 0\n', "/orchestrator.toml:7: pools.0.replicas.1.slots: Input"),
    ],
)
def test_what_is_unknown_or_wrong_is_told_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    assert place in fault(tmp_path, text)


@pytest.mark.spec("ORCH-3063-001")
@pytest.mark.parametrize("text, said", [
    (POOL + "[server]\nport = true\n", "/orchestrator.toml:6: server.port: must be a number, not true or false"),
    (POOL + "slots = true\n", "/orchestrator.toml:5: pools.0.replicas.0.slots: must be a number"),
    (POOL + "[server]\nport = 9000\nadmin_port = 9000\n", "port and admin_port are both 9000"),
    (POOL + "".join(f'[[server.api_keys]]\nname = "{name}"\nsha256 = "{"0" * 64}"\n' for name in "ab"),
     "api_keys 'a' and 'b' are the same key"),
])  # fmt: skip
def test_values_that_could_not_be_meant_are_told(tmp_path: Path, text: str, said: str) -> None:
    assert said in fault(tmp_path, text)


def test_two_hosts_ports_may_both_be_any(tmp_path: Path) -> None:
    assert load(tmp_path, POOL + "[server]\nport = 0\nadmin_port = 0\n").settings.server.admin_port == 0


def test_a_fault_inside_of_a_list_is_told_once(tmp_path: Path) -> None:
    message = fault(tmp_path, POOL + "option = 5\n")

    assert message.splitlines()[1:] == ["  /orchestrator.toml:5: pools.0.replicas.0.option: unknown key"]


@pytest.mark.spec("ORCH-3063-001")
def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, POOL + "[server]\nprot = 1\nhots = 2\n")

    assert ":6: server.prot" in message
    assert ":7: server.hots" in message


@pytest.mark.parametrize(
    "text, said",
    [
        ("pools = [", "is not TOML"),
        ("", "no pools: "),
        (
            '[[pools]]\nadapter = "mock"\nchat_template = 3\n[[pools.replicas]]\nid = "r0"\n',
            ":3: pools.0.chat_template: Input should be a valid string",
        ),
        ('[[pools]]\nadapter = "mock"\nreplicas = []\n', ":3: pools.0.replicas"),
        (POOL + '[[pools.replicas]]\nid = "r0"\n', "two replicas are called 'r0'"),
        (POOL + POOL, "two pools are called 'default'"),
        ('[[pools]]\n[[pools.replicas]]\nid = "r0"\n', "names no adapter"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    assert said in fault(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_settings(tmp_path / "none.toml", {}, adapters=[])


@pytest.mark.spec("ORCH-3063-002")
def test_a_url_in_the_environment_makes_a_pool(tmp_path: Path) -> None:
    settings = load(tmp_path, ORCHD_TRITON_URL="grpc://h:8001").settings

    replica = settings.pools[0].replicas[0]
    assert (settings.pools[0].id, replica.id, replica.adapter) == ("default", "r0", "triton")
    assert replica.options == {"url": "grpc://h:8001"}


@pytest.mark.spec("ORCH-3063-007")
def test_a_url_in_the_environment_is_that_adapters_whatever_the_file_says(tmp_path: Path) -> None:
    text = '[[pools]]\n[[pools.replicas]]\nid = "r0"\nurl = "http://other:1"\n'
    (replica,) = load(tmp_path, text, ORCHD_TRITON_URL="http://h:8001").settings.pools[0].replicas
    taken = fault(tmp_path, text + 'adapter = "mock"\n', {"ORCHD_TRITON_URL": "http://h:8001"})

    assert (replica.adapter, replica.adapter_options) == ("triton", {"url": "http://h:8001"})
    assert "the mock adapter's" in taken
    assert "ORCHD_TRITON_REPLICA" in taken


def test_the_seeds_names_place_the_replica(tmp_path: Path) -> None:
    settings = load(tmp_path, TRITON_ENABLED="true", ORCHD_TRITON_POOL="gpu", ORCHD_TRITON_REPLICA="a").settings

    assert (settings.pools[0].id, settings.pools[0].replicas[0].id) == ("gpu", "a")
    assert settings.pools[0].replicas[0].options == {}


def test_an_adapter_that_is_not_enabled_makes_no_pool(tmp_path: Path) -> None:
    said = fault(tmp_path, None, {"TRITON_ENABLED": "false"})

    assert said.startswith("invalid settings:\n  no pools: no file was given")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path, POOL + "[server]\nport = 1\n", ORCHD_PORT="2", ORCHD_SERVER__HEARTBEAT_S="5",
        ORCHD_SERVER__CORS_ORIGINS='["https://a.example"]',
    ).settings  # fmt: skip

    assert (settings.server.port, settings.server.heartbeat_s) == (2, 5.0)
    assert settings.server.cors_origins == ("https://a.example",)


@pytest.mark.spec("ORCH-3063-001")
@pytest.mark.parametrize(
    "name, said",
    [
        ("ORCHD_PROT", "ORCHD_PROT names no setting; did you mean ORCHD_PORT?"),
        ("ORCHD_SERVER__PROT", "ORCHD_SERVER__PROT: server.prot: unknown key"),
        ("ORCHD_SERVER__PORT", "ORCHD_SERVER__PORT: server.port: Input should be a valid integer"),
        ("ORCHD_SERVR__PORT", "ORCHD_SERVR__PORT names no setting"),
        ("TRITON_ENABLED", "TRITON_ENABLED is neither true nor false"),
    ],
)
def test_a_variable_that_is_unknown_or_wrong_is_told_by_name(tmp_path: Path, name: str, said: str) -> None:
    assert said in fault(tmp_path, POOL, {name: "x"})


def test_a_variable_has_the_other_settings_of_an_adapter(tmp_path: Path) -> None:
    more = {"ORCHD_TRITON_OPTIONS": '{"models": {"m": {"tool_parser": "hermes"}}}'}
    (replica,) = load(tmp_path, ORCHD_TRITON_URL="grpc://h:8001", **more).settings.pools[0].replicas
    (enabled,) = load(tmp_path, TRITON_ENABLED="true", **more).settings.pools[0].replicas

    assert replica.options == {"url": "grpc://h:8001", "models": {"m": {"tool_parser": "hermes"}}}
    assert enabled.options == {"models": {"m": {"tool_parser": "hermes"}}}
    wrong = {"ORCHD_TRITON_URL": "grpc://h:8001", "ORCHD_TRITON_OPTIONS": "5"}
    assert "ORCHD_TRITON_OPTIONS is no JSON object" in fault(tmp_path, None, wrong)


@pytest.mark.spec("ORCH-3063-003")
def test_secrets_come_from_variables_and_files_and_are_known_as_such(tmp_path: Path) -> None:
    secret_file = tmp_path / "token"
    secret_file.write_text("from-a-file\n", encoding="utf-8")
    text = POOL + (
        f'options = {{ bearer = {{ secret_file = "{secret_file}" }}, other = {{ secret_env = "MY_TOKEN" }}, '
        'token = "in-clear", name = "public" }\n'
    )

    loaded = load(tmp_path, text, MY_TOKEN="from-the-environment")

    options = loaded.settings.pools[0].replicas[0].options
    assert (options["bearer"], options["other"]) == ("from-a-file", "from-the-environment")
    assert loaded.secrets == {"from-a-file", "from-the-environment", "in-clear"}
    for text in (repr(loaded), repr(loaded.settings), str(loaded.settings)):
        assert not any(secret in text for secret in loaded.secrets)


@pytest.mark.parametrize(
    "reference, said",
    [('{ secret_env = "UNSET_ONE" }', "variable UNSET_ONE, which is not set"), ('{ secret_file = "/nope" }', "/nope")],
)
def test_a_secret_that_is_not_there_is_told(tmp_path: Path, reference: str, said: str) -> None:
    assert said in fault(tmp_path, POOL + f"options = {{ token = {reference} }}\n")


@pytest.mark.spec("ORCH-3063-004")
def test_listening_beyond_loopback_needs_a_key_or_a_word(tmp_path: Path) -> None:
    assert "add one, or say allow_anonymous = true" in fault(tmp_path, POOL + '[server]\nhost = "0.0.0.0"\n')

    load(tmp_path, POOL + '[server]\nhost = "0.0.0.0"\nallow_anonymous = true\n')
    load(tmp_path, POOL + f'[server]\nhost = "0.0.0.0"\napi_keys = [{{ name = "a", sha256 = "{"0" * 64}" }}]\n')


@pytest.mark.spec("ORCH-3063-001")
@pytest.mark.parametrize("text, said", [
    ("pools = 5\n", "/orchestrator.toml:1: pools: "),
    ("pools = 'x'\n", "/orchestrator.toml:1: pools: "),
    ("[pools]\nid = 'a'\n", "/orchestrator.toml:1: pools: "),
    ("pools = [5]\n", "pools.0: "),
    ("[[pools]]\nreplicas = 5\n", "/orchestrator.toml:2: pools.0.replicas: "),
    ("[[pools]]\nreplicas = [5]\n", "pools.0.replicas.0: "),
    ("[[pools]]\n[[pools.replicas]]\nid = 'r0'\noptions = 5\n", "/orchestrator.toml:4: pools.0.replicas.0.options: "),
])  # fmt: skip
def test_a_file_that_has_something_else_where_a_variable_adds_a_replica_is_told_as_ever(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in fault(tmp_path, text, {"ORCHD_TRITON_URL": "grpc://h:8001"})


@pytest.mark.spec("ORCH-3064-030")
@pytest.mark.parametrize("template, said", [
    ("'{% break %}'", "'break' outside loop"),
    ("'{% for %}'", "not valid jinja2: line 1"),
    ("'/nowhere/chat_template.jinja'", "there is no such file"),
    (repr("{% if x %}" * 3000 + "{% endif %}" * 3000), "nested too deep"),
])  # fmt: skip
def test_a_chat_template_that_cannot_be_used_is_told_by_its_pool(tmp_path: Path, template: str, said: str) -> None:
    text = f'[[pools]]\nid = "blue"\nadapter = "mock"\nchat_template = {template}\n[[pools.replicas]]\nid = "r0"\n'

    with pytest.raises(ConfigurationError, match=rf"pool 'blue', chat_template: .*{said}"):
        check_settings(load(tmp_path, text), load_plugins())
