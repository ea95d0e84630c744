"""Who may see and say what: TLS, tokens, and texts that must stay private."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import trustme

from adapter_api import (
    AccessError,
    AdapterError,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    End,
    EngineFailed,
    Error,
    HealthReport,
    HealthState,
    InferRequest,
    Overloaded,
    PermissionDenied,
    TaskRequest,
    Tensor,
    TokenEvent,
    Unauthenticated,
    WorkerAdapter,
    encode_event,
)
from adapter_api.testing import collect
from tests.triton_adapter.lab import loaded, tensor
from triton_adapter import RestrictedToken, TlsSettings, TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton, FaultProxy, ServerTls
from triton_adapter.wire.status import clean, error_for

pytestmark = pytest.mark.anyio

TOKEN = "swordfish-of-the-restricted-server"
BEARER = "hunter2-the-bearer-token"
QUICK = {"triton.delay_ms": 1}


class Papers(NamedTuple):
    """A folder with a certificate authority and what it signed."""

    authority: trustme.CA
    folder: Path

    def sign(self, name: str, *identities: str) -> tuple[Path, Path]:
        """Write a new certificate and its key over the files of that name, each in one step."""
        signed = self.authority.issue_cert(*identities)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        for path, blob in zip(paths, (b"".join(b.bytes() for b in signed.cert_chain_pems),
                                      signed.private_key_pem.bytes()), strict=True):  # fmt: skip
            replace(path, blob)
        return paths

    @property
    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        if not path.exists():
            self.authority.cert_pem.write_to_path(str(path))
        return path


def replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of an old one in one step, as those who rotate certificates do."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


class Secured(NamedTuple):
    """A real server with mutual TLS and every protocol restricted."""

    server: EmbeddedTriton
    papers: Papers

    @property
    def url(self) -> str:
        return self.server.grpc_url.replace("grpc://", "grpcs://")

    def settings(self, **changes: Any) -> TritonSettings:
        certificate, key = self.papers.folder / "client.pem", self.papers.folder / "client.key"
        return TritonSettings.model_validate(
            {
                "url": self.url,
                "tls": TlsSettings(ca_file=self.papers.ca_file, cert_file=certificate, key_file=key),
                "restricted_token": RestrictedToken.model_validate({"key": "admin", "value": TOKEN}),
                "max_retries": 0,
                **changes,
            }
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    papers = Papers(trustme.CA(), tmp_path_factory.mktemp("papers"))
    certificate, key = papers.sign("server", "127.0.0.1")
    papers.sign("client", "client.test")
    restricted = "health,metadata,inference,model-config,model-repository,statistics"
    arguments = [
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={certificate}",
        f"--grpc-server-key={key}",
        f"--grpc-root-cert={papers.ca_file}",
        f"--grpc-restricted-protocol={restricted}:admin={TOKEN}",
    ]
    with EmbeddedTriton(model_control_mode="explicit", load_models=["slow"], extra_args=arguments) as server:
        yield Secured(server, papers)


async def run(adapter: WorkerAdapter, **fields: object) -> list[TokenEvent]:
    return await collect(adapter.submit(TaskRequest.model_validate({"prompt": "tick", **fields})))


async def refusal(settings: TritonSettings) -> tuple[Error, HealthReport]:
    """Return how a task ended that could not succeed, and what health says of the same server."""
    async with TritonAdapter(settings) as adapter:
        last = (await run(adapter, model="slow", parameters=QUICK, max_tokens=1))[-1]
        assert isinstance(last, Error)
        return last, await adapter.health()


@pytest.mark.live
async def test_mutual_tls_and_the_restricted_token_open_the_server(secured: Secured) -> None:
    async with TritonAdapter(secured.settings()) as adapter:
        events = await run(adapter, model="slow", parameters=QUICK, max_tokens=2)
        report = await adapter.health()
        props = await adapter.props()

    assert isinstance(events[-1], End)
    assert report.state is HealthState.READY
    assert [model.name for model in props.models] == ["slow"]


@pytest.mark.live
@pytest.mark.parametrize("token", [None, "wrong-value"])
async def test_without_the_restricted_token_nothing_opens_and_nothing_is_tried_again(
    secured: Secured, token: str | None
) -> None:
    changed = None if token is None else RestrictedToken.model_validate({"key": "admin", "value": token})

    error, report = await refusal(secured.settings(restricted_token=changed, max_retries=5))

    assert (error.code, error.retryable) == (PermissionDenied.code, False)
    assert "restricted_token" in error.message
    assert (report.state, report.live, report.ready) == (HealthState.DEGRADED, True, False)
    assert "restricted" in report.detail
    assert "wrong-value" not in error.message + report.detail


@pytest.mark.live
async def test_a_server_of_another_authority_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    stranger = Papers(trustme.CA(), tmp_path)
    tls = TlsSettings(ca_file=stranger.ca_file)

    error, report = await refusal(secured.settings(tls=tls))

    assert (error.code, error.retryable) == (Unauthenticated.code, False)
    assert "ca_file" in error.message
    assert report.state in (HealthState.UNREACHABLE, HealthState.DEGRADED)
    assert not report.ready
    assert "ca_file" in report.detail


@pytest.mark.live
async def test_a_certificate_for_another_name_is_not_trusted(secured: Secured) -> None:
    tls = secured.settings().tls.model_copy(update={"server_name": "elsewhere.test"})

    error, _ = await refusal(secured.settings(tls=tls))

    assert error.code == Unauthenticated.code
    assert "server_name" in error.message


@pytest.mark.live
async def test_a_server_that_wants_our_certificate_says_so(secured: Secured) -> None:
    error, report = await refusal(secured.settings(tls=TlsSettings(ca_file=secured.papers.ca_file)))

    assert error.code in (Unauthenticated.code, ConnectFailed.code)
    assert "cert" in error.message
    assert "refused" not in error.message
    assert not report.ready


@pytest.mark.live
async def test_plaintext_to_a_tls_port_and_tls_to_a_plaintext_port_are_told_apart(
    secured: Secured, triton: EmbeddedTriton
) -> None:
    plain_to_tls, _ = await refusal(TritonSettings(url=secured.server.grpc_url, max_retries=0))
    tls_to_plain, _ = await refusal(TritonSettings(url=triton.grpc_url.replace("grpc://", "grpcs://"), max_retries=0))
    refused, _ = await refusal(TritonSettings(url="grpcs://127.0.0.1:1", max_retries=0))

    assert "grpcs://" in plain_to_tls.message
    assert "does not speak TLS" in tls_to_plain.message
    assert "nothing listens" in refused.message
    assert {plain_to_tls.code, tls_to_plain.code, refused.code} == {ConnectFailed.code}


@pytest.mark.live
async def test_certificates_are_replaced_under_load_without_a_failed_task(secured: Secured) -> None:
    with FaultProxy(secured.server.grpc_url) as proxy:
        settings = secured.settings(url=f"grpcs://{proxy.address}", max_retries=3)
        async with TritonAdapter(settings) as adapter:
            over, finished = anyio.Event(), anyio.Condition()
            failed: list[Error] = []
            counts = {"long": 0, "short": 0}

            async def work(kind: str, tokens: int) -> None:
                while not over.is_set():
                    last = (await run(adapter, model="slow", max_tokens=tokens, parameters={"triton.delay_ms": 20}))[-1]
                    counts[kind] += 1
                    async with finished:
                        finished.notify_all()
                    if isinstance(last, Error):
                        failed.append(last)

            async def rotate() -> None:
                # Half of the new pair first, as rotation tools do: that must not be taken.
                old_key = (secured.papers.folder / "client.key").read_bytes()
                _, key = secured.papers.sign("client", "client2.test")
                new_key = key.read_bytes()
                replace(key, old_key)
                await tasks_more(4)
                assert proxy.accepted == 1
                replace(key, new_key)
                while proxy.accepted == 1:
                    await tasks_more(1)
                await tasks_more(4)
                over.set()

            async def tasks_more(number: int) -> None:
                target = counts["short"] + number
                async with finished:
                    while counts["short"] < target:
                        await finished.wait()

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(work, "short", 5)
                        group.start_soon(work, "long", 40)
                    await tasks_more(1)
                    group.start_soon(rotate)

        assert not failed
        assert counts["long"] >= 3
        assert proxy.accepted == 2
        assert await proxy_is_empty(proxy), "the old connection went with its last task"


async def proxy_is_empty(proxy: FaultProxy) -> bool:
    await anyio.to_thread.run_sync(lambda: proxy.wait_until(lambda: proxy.connections == 0))
    return proxy.connections == 0


async def test_a_server_that_comes_back_with_another_authority_is_trusted_once_the_file_says_so(
    tmp_path: Path,
) -> None:
    ours = tmp_path / "trusted.pem"
    first, second = (Papers(trustme.CA(), folder(tmp_path / name)) for name in ("first", "second"))
    shutil.copyfile(first.ca_file, ours)
    proxy_port: str
    with FakeTriton(tls=ServerTls(*first.sign("server", "127.0.0.1"))) as old, FaultProxy(old.grpc_url) as way:
        old.model("m").respond_with_text("from the first")
        proxy_port = way.address
        async with TritonAdapter(TritonSettings(url=f"grpcs://{proxy_port}", tls=TlsSettings(ca_file=ours))) as adapter:
            assert isinstance((await run(adapter, model="m"))[-1], End)

            replace(ours, second.ca_file.read_bytes())
            with anyio.fail_after(10):
                while isinstance(last := (await run(adapter, model="m"))[-1], End):  # noqa: ASYNC110 - the server tells of no event
                    await anyio.sleep(0.01)

    assert isinstance(last, Error)
    assert last.code == Unauthenticated.code, "the new file is what counts now"


def folder(path: Path) -> Path:
    path.mkdir()
    return path


async def test_the_bearer_token_goes_with_every_call_and_is_read_again(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first-token\n")
    with FakeTriton() as fake:
        fake.model("m")
        async with TritonAdapter(TritonSettings(url=fake.grpc_url, bearer_token_file=token_file)) as adapter:
            await run(adapter, model="m")
            await adapter.health()
            replace(token_file, b"second-token\n")
            with anyio.fail_after(10):
                while fake.calls[-1].origin.metadata["authorization"] != "Bearer second-token":
                    await run(adapter, model="m")

        seen = {call.origin.metadata.get("authorization") for call in fake.calls}
    assert seen == {"Bearer first-token", "Bearer second-token"}


async def test_a_token_file_that_cannot_be_read_is_named_without_its_content(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigurationError, match="bearer_token_file") as caught:
        async with TritonAdapter(TritonSettings(bearer_token_file=token_file)):
            pass

    assert "\\xff" not in str(caught.value)


@pytest.mark.parametrize("code, error", [("UNAUTHENTICATED", Unauthenticated), ("PERMISSION_DENIED", PermissionDenied)])
async def test_a_gateway_that_wants_credentials_is_told_from_a_server_that_is_not_ready(
    code: Any, error: type[AccessError]
) -> None:
    with FakeTriton() as fake:
        fake.model("m")
        for call in ("ServerLive", "ServerReady", "RepositoryIndex", "ModelMetadata", "ModelConfig"):
            fake.fail_next(call, code, "no valid token", times=3)
        async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
            report = await adapter.health()
            last = (await run(adapter, model="m"))[-1]

    assert (report.state, report.live, report.ready) == (HealthState.DEGRADED, True, False)
    assert "bearer_token" in report.detail
    assert isinstance(last, Error)
    assert (last.code, last.retryable) == (error.code, False)


# -- texts that must stay private

PROMPT = 'The canary\'s name is Zanzibar-42 and\nit "sings" für Elise at \\midnight.'
ECHOES = {
    "as it is": PROMPT,
    "as Python shows it": repr(PROMPT),
    "as JSON": json.dumps(PROMPT),
    "in one line": " ".join(PROMPT.split()),
    "its beginning": f"prompt {PROMPT[:40]!r}… is not allowed",
    "its end": f"…{PROMPT[-30:]}",
    "in capitals": PROMPT.upper(),
    "as an uncased tokenizer sees it": PROMPT.lower(),
}


def said(secret_events: list[TokenEvent]) -> str:
    return b"\n".join(encode_event(event) for event in secret_events).decode() + repr(secret_events)


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("decoupled", [True, False], ids=["in band", "as a status"])
async def test_a_server_that_echoes_the_prompt_is_not_quoted(
    echo: str, decoupled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeTriton() as fake, caplog.at_level(logging.DEBUG):
        model = fake.model("m").signature("text", decoupled=decoupled)
        model.respond_with_text("x").fail(f"cannot tokenize: {echo} (error 17)", after=0)
        async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
            events = await run(adapter, model="m", prompt=PROMPT)

    assert isinstance(events[-1], Error)
    assert "cannot tokenize" in events[-1].message
    for part in ("zanzibar", "sings", "elise", "midnight"):
        assert part not in (said(events) + caplog.text).lower()


async def test_what_a_chat_template_made_of_a_message_is_not_quoted_either() -> None:
    with FakeTriton() as fake:
        fake.model("m").respond_with_text("x").fail(f"bad prompt: user: {PROMPT}\n\nassistant:", after=0)
        async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
            task = TaskRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": PROMPT}]})
            events = await collect(adapter.submit(task))

    assert isinstance(events[-1], Error)
    assert "Zanzibar" not in said(events)
    assert "midnight" not in said(events)


@pytest.mark.live
async def test_a_tensor_of_text_is_not_quoted_by_the_error_of_its_model(adapter: TritonAdapter) -> None:
    code = """
    def execute(self, requests):
        raise ValueError("cannot read " + value(requests[0], "X")[0].decode())
    """
    async with loaded(
        adapter, "quotes", inputs=[tensor("X", "TYPE_STRING", 1)], outputs=[tensor("Y", "TYPE_STRING", 1)], code=code
    ):
        request = InferRequest(model="quotes", inputs=(Tensor.from_bytes_elements("X", [PROMPT.encode()]),))
        with pytest.raises(AdapterError) as caught:
            await adapter.infer(request)

    assert "cannot read" in caught.value.message
    assert "Zanzibar" not in caught.value.message
    assert "midnight" not in caught.value.message


def test_hiding_leaves_the_rest_of_a_message_alone_however_long_the_prompt() -> None:
    prompt = "word " * 200_000 + "with SECRETS of the very end of it"

    assert clean("cannot: 'SECRETS of the very end of it' at 7", hide=[prompt]) == "cannot: … at 7"
    assert clean("Exceeds maximum queue size", hide=[prompt]) == "Exceeds maximum queue size"


def test_a_letter_whose_lower_case_is_two_does_not_shift_what_is_hidden() -> None:
    assert clean("bad: İstanbul'da bir öğleden sonra (17)", hide=["İstanbul'da bir öğleden sonra"]) == "bad: … (17)"
    assert clean("İİİİ bad: the whole of the secret (17)", hide=["the whole of the SECRET"]) == "İİİİ bad: … (17)"


def test_a_quoted_prompt_does_not_decide_what_an_error_is() -> None:
    prompt = "Why does it say: Exceeds maximum queue size?"

    assert type(error_for("INTERNAL", f"cannot tokenize {prompt!r}", what="m", hide=[prompt])) is EngineFailed
    assert type(error_for("UNAVAILABLE", "Exceeds maximum queue size", what="m", hide=["hello there"])) is Overloaded


@pytest.mark.parametrize("code", [None, "INTERNAL"])
def test_a_connection_of_the_models_own_is_not_taken_for_ours(code: str | None) -> None:
    text = "Failed to process the request(s) for model 'm_0_0', message: ConnectionResetError: Connection reset by peer"

    assert type(error_for(code, text, what="m")) is EngineFailed
    assert type(error_for("UNAVAILABLE", "Connection reset by peer", what="m")) is ConnectionLost


async def test_secrets_stay_out_of_reprs_errors_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    settings: dict[str, Any] = {
        "bearer_token": BEARER,
        "restricted_token": {"key": "admin", "value": TOKEN},
        "max_retries": 1,
    }
    shown: list[object] = []
    with FakeTriton() as fake, caplog.at_level(logging.DEBUG):
        fake.model("m").respond_with_text("x").fail(f"header authorization: Bearer {BEARER}; admin={TOKEN}", after=0)
        async with TritonAdapter(TritonSettings(url=fake.grpc_url, **settings)) as adapter:
            task = TaskRequest(model="m", prompt=PROMPT)
            stream = adapter.submit(task)
            shown += [adapter, adapter.settings, adapter.models, stream, adapter._engine.transport]
            shown += [await collect(stream), await adapter.health(), await adapter.props(), vars(adapter)]
            shown += [task]
            fake.die()
            shown += [await run(adapter, model="m", prompt=PROMPT), await adapter.health()]
    with pytest.raises(ConfigurationError) as caught:
        TritonSettings.from_env({"TRITON_URL": f"grpc://user:{BEARER}@host:8001"})
    shown += [caught.value, str(caught.value)]

    text = " ".join(map(repr, shown)) + caplog.text
    for secret in (BEARER, TOKEN, "Zanzibar", "midnight"):
        assert secret not in text


async def test_a_host_that_never_answers_is_a_deadline_and_not_a_refusal() -> None:
    with FakeTriton() as fake:
        fake.model("m")
        fake.proxy.stall()
        settings = TritonSettings(url=fake.grpc_url, connect_timeout_s=0.3, max_retries=0)
        async with TritonAdapter(settings) as adapter:
            last = (await run(adapter, model="m"))[-1]
        fake.proxy.resume()

    assert isinstance(last, Error)
    assert last.code == DeadlineExceeded.code
    assert last.stage in ("connect", "control")
