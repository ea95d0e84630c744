"""Settings from arguments and the environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapter_api import ConfigurationError, load_plugins
from adapter_kit.tls import TlsSettings
from triton_adapter.address import parse_address
from triton_adapter.settings import ModelOverride, RestrictedToken, TritonSettings


@pytest.mark.parametrize(
    "url, target, tls",
    [
        ("grpc://host:9000", "host:9000", False),
        ("grpcs://host:9000", "host:9000", True),
        ("http://localhost:8001", "localhost:8001", False),
        ("https://host", "host:8001", True),
        ("host:1234", "host:1234", False),
        ("host", "host:8001", False),
        ("10.0.0.7:8001", "10.0.0.7:8001", False),
        ("grpc://[::1]:8001", "[::1]:8001", False),
        ("GRPC://Host:8001/", "host:8001", False),
    ],
)
def test_every_form_of_url_that_people_write_is_understood(url: str, target: str, tls: bool) -> None:
    address = parse_address(url)

    assert (address.target, address.tls) == (target, tls)


@pytest.mark.parametrize(
    "url, complaint",
    [
        ("ftp://host:1", "ftp://"),
        ("", "no host"),
        ("grpc://", "no host"),
        ("grpc://host:port", "not a URL"),
        ("grpc://host:99999", "not a URL"),
        ("grpc://host:0", "port 0"),
        ("grpc://host:8001/v2/models", "goes on after the port"),
        ("grpc://ho st:8001", "no host"),
        ("grpc://user:hunter2@host:8001", "credentials"),
    ],
)
def test_a_url_of_another_kind_is_refused_with_what_is_wrong(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        TritonSettings(url=url)

    assert "hunter2" not in str(caught.value)


def test_the_environment_is_read_under_every_documented_name() -> None:
    settings = TritonSettings.from_env(
        {
            "TRITON_ENABLED": "true",
            "TRITON_URL": "grpc://a:1",
            "TRITON_HTTP_URL": "a:2",
            "TRITON_PROTOCOL": "GRPC",
            "TRITON_TIMEOUT": "7.5",
            "TRITON_MODEL": "llama",
            "TRITON_MAX_RETRIES": "1",
            "TRITON_CONFIDENCE_THRESHOLD": "0.25",
            "ORCHD_TRITON_POOL": "gpu",
            "ORCHD_TRITON_REPLICA": "r7",
        }
    )

    assert settings.enabled is True
    assert settings.url == "grpc://a:1"
    assert settings.http_url == "a:2"
    assert settings.timeout_s == 7.5
    assert settings.model == "llama"
    assert settings.max_retries == 1
    assert settings.confidence_threshold == 0.25
    assert (settings.pool_id, settings.replica_id) == ("gpu", "r7")


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = TritonSettings.from_env({"TRITON_URL": ""})

    assert str(settings.address) == "grpc://localhost:8001"
    assert (settings.timeout_s, settings.max_retries, settings.confidence_threshold) == (60, 3, 0.5)
    assert (settings.pool_id, settings.replica_id, settings.enabled) == ("default", "r0", False)


def test_the_orchestrators_url_wins_over_the_generic_one_and_an_argument_over_both() -> None:
    environ = {"TRITON_URL": "grpc://generic:1", "ORCHD_TRITON_URL": "grpc://mine:1"}

    assert TritonSettings.from_env(environ).url == "grpc://mine:1"
    assert TritonSettings.from_env(environ, url="grpc://given:1").url == "grpc://given:1"


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="TRITON_TIMEOUT"):
        TritonSettings.from_env({"TRITON_TIMEOUT": "soon"})


def test_a_protocol_that_is_another_adapters_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="openai"):
        TritonSettings.from_env({"TRITON_PROTOCOL": "openai"})


@pytest.mark.spec("ORCH-3066-002")
@pytest.mark.parametrize("environ, given, where", [
    ({}, {"url": "http+v2://h:9000"}, "http+v2://h:9000"),
    ({}, {"url": "https+v2://h"}, "https+v2://h:443"),
    ({}, {"url": "http+v2://h/models/v2"}, "http+v2://h:8000/models"),
    ({}, {"url": "http://h:9000", "protocol": "http"}, "http+v2://h:9000"),
    ({}, {"url": "h:9000", "protocol": "http"}, "http+v2://h:9000"),
    ({}, {"protocol": "http"}, "http+v2://localhost:8000"),
    ({}, {"url": "grpc://h:1", "http_url": "h:2"}, "grpc://h:1"),
    ({}, {"url": "grpc://h:1", "http_url": "h:2", "protocol": "http"}, "http+v2://h:2"),
    ({"TRITON_PROTOCOL": "HTTP"}, {}, "http+v2://localhost:8000"),
    ({"TRITON_PROTOCOL": "http", "TRITON_URL": "a:1", "TRITON_HTTP_URL": "https://a:2"}, {}, "https+v2://a:2"),
    ({"TRITON_PROTOCOL": "http", "TRITON_URL": "http://a:1"}, {}, "http+v2://a:1"),
    # Who names an engine does not mean the one of the environment, nor how that is spoken to.
    ({"TRITON_PROTOCOL": "http", "TRITON_HTTP_URL": "a:2"}, {"url": "b:3"}, "http+v2://b:3"),
    ({"TRITON_PROTOCOL": "http", "TRITON_HTTP_URL": "a:2"}, {"url": "grpc://b:3"}, "grpc://b:3"),
    ({"TRITON_PROTOCOL": "grpc"}, {"url": "http+v2://b:3"}, "http+v2://b:3"),
])  # fmt: skip
def test_the_way_is_chosen_by_setting_or_scheme(environ: dict[str, str], given: dict[str, str], where: str) -> None:
    settings = TritonSettings.from_env(environ, **given)

    assert str(settings.address) == where
    assert str(TritonSettings.model_validate(settings.model_dump()).address) == where
    if settings.protocol == "http":
        assert str(parse_address(settings.url, "http")) == where, "the URL says where the adapter goes"


@pytest.mark.spec("ORCH-3066-002")
@pytest.mark.parametrize("given, said", [
    ({"url": "http+v2://h:1", "protocol": "grpc"}, "set `protocol` to 'http'"),
    ({"url": "grpc://h:1", "protocol": "http"}, "set `protocol` to 'grpc'"),
    ({"url": "http+v2://h:1?x=1"}, "path after the port"),
    ({"url": "http+v2://h:0"}, "HTTP port is usually 8000"),
    ({"url": "http+v2://me:hunter2@h:1"}, "credentials"),
])  # fmt: skip
def test_a_url_that_is_not_of_the_way_is_refused_with_what_to_write(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        TritonSettings.model_validate(given)

    assert "hunter2" not in str(caught.value)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="urll"):
        TritonSettings.model_validate({"urll": "grpc://h:1"})


def test_secrets_stay_out_of_the_repr() -> None:
    settings = TritonSettings.model_validate(
        {"bearer_token": "hunter2", "restricted_token": {"key": "k", "value": "swordfish"}}
    )

    assert "hunter2" not in repr(settings)
    assert "swordfish" not in repr(settings)
    assert isinstance(settings.restricted_token, RestrictedToken)


def test_tls_files_with_a_plaintext_url_are_refused() -> None:
    with pytest.raises(ValidationError, match="grpcs://"):
        TritonSettings(url="grpc://h:1", tls=TlsSettings(ca_file=Path("ca.pem")))


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="together"):
        TlsSettings(cert_file=Path("cert.pem"))


def test_overrides_of_models_are_frozen_and_survive_a_round_trip() -> None:
    settings = TritonSettings.model_validate({"models": {"m": {"inputs": {"prompt": "text"}}}})

    assert settings.models["m"] == ModelOverride.model_validate({"inputs": {"prompt": "text"}})
    assert TritonSettings.model_validate(settings.model_dump()) == settings
    with pytest.raises(TypeError):
        settings.models["m"].inputs["prompt"] = "other"  # type: ignore[index]


@pytest.mark.spec("ORCH-3064-030")
@pytest.mark.parametrize("template, said", [
    ("{% for %}", "not valid jinja2: line 1"),
    ("{% break %}", "outside loop"),
    ("{% if x %}" * 3000 + "{% endif %}" * 3000, "nested too deep"),
    ("/nowhere/tokenizer_config.json", "there is no such file"),
    ("gone.jinja", "there is no such file"),
])  # fmt: skip
def test_a_template_that_cannot_be_used_is_told_by_its_model_when_settings_are_read(template: str, said: str) -> None:
    for read in (
        lambda: TritonSettings.from_env({}, models={"llama": {"chat_template": template}}),
        lambda: load_plugins().adapter("triton").create({"models": {"llama": {"chat_template": template}}}),
    ):
        with pytest.raises(ConfigurationError, match=rf"models\.llama: chat_template: .*{said}"):
            read()


def test_values_for_a_template_that_is_not_there_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="chat_template_kwargs need a chat_template"):
        TritonSettings.from_env({}, models={"llama": {"chat_template_kwargs": {"enable_thinking": True}}})
