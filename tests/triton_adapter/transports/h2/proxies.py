"""Proxies that others wrote, in front of a gRPC server: how each is configured, run, and installed."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import pytest

sys.path.append(str(Path(__file__).parents[4] / "scripts"))
from foreign_servers import make


class Certificate(NamedTuple):
    """What a proxy shows over TLS: files of a chain, and of its key."""

    chain: Path
    key: Path


@contextmanager
def running(command: Sequence[str | Path], port: int) -> Iterator[int]:
    """Run a server until the block ends; enter it once something listens on its port."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = monotonic() + 30
        while True:  # none of them tells when it listens
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, f"{command[0]} ended"
                assert monotonic() < ends, f"{command[0]} does not listen"
                sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


Run = Callable[[str, int, Path, Certificate | None], AbstractContextManager[int]]
"""Runs a program in front of a port, with its files in a folder; enters the port of its own."""


def _nginx(program: str, target: int, folder: Path, tls: Certificate | None) -> AbstractContextManager[int]:
    port = free_port()
    ours = f"ssl http2; ssl_certificate {tls.chain}; ssl_certificate_key {tls.key}" if tls else "http2"
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        "client_max_body_size 64m; grpc_buffer_size 64k;\n"
        f"server {{ listen 127.0.0.1:{port} {ours}; location / {{ grpc_pass grpc://127.0.0.1:{target}; }} }} }}\n"
    )
    return running((program, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"), port)


def _haproxy(program: str, target: int, folder: Path, tls: Certificate | None) -> AbstractContextManager[int]:
    port, ours = free_port(), "proto h2"
    if tls is not None:
        (folder / "both.pem").write_bytes(tls.chain.read_bytes() + tls.key.read_bytes())
        ours = f"ssl crt {folder / 'both.pem'} alpn h2"
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"listen between\n bind 127.0.0.1:{port} {ours}\n server one 127.0.0.1:{target} proto h2\n"
    )
    return running((program, "-db", "-f", folder / "haproxy.cfg"), port)


def _nghttpx(program: str, target: int, folder: Path, tls: Certificate | None) -> AbstractContextManager[int]:
    port = free_port()
    (folder / "nghttpx.conf").touch()  # else it reads the machine's
    certificate = () if tls is None else (tls.key, tls.chain)
    command: tuple[str | Path, ...] = (
        program,
        f"--conf={folder / 'nghttpx.conf'}",
        f"--frontend=127.0.0.1,{port}{'' if tls else ';no-tls'}",
        f"--backend=127.0.0.1,{target};;proto=h2",
        "--workers=1",
        "--single-process",
        *certificate,
    )
    return running(command, port)


def _caddy(program: str, target: int, folder: Path, tls: Certificate | None) -> AbstractContextManager[int]:
    port = free_port()
    ours = f"tls {tls.chain} {tls.key}" if tls else ""
    (folder / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n storage file_system {folder}\n"
        " servers {\n  protocols h1 h2 h2c\n }\n}\n"
        f":{port} {{\n bind 127.0.0.1\n {ours}\n"
        f" reverse_proxy h2c://127.0.0.1:{target} {{\n  flush_interval -1\n }}\n}}\n"
    )
    return running((program, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"), port)


_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: HTTP2
          stat_prefix: between
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: one, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
{ours}
  clusters:
  - name: one
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: one
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {target}}}}}}}
"""
_ENVOY_TLS = """\
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificates:
            - certificate_chain: {{filename: {chain}}}
              private_key: {{filename: {key}}}
"""


def _envoy(program: str, target: int, folder: Path, tls: Certificate | None) -> AbstractContextManager[int]:
    port = free_port()
    ours = _ENVOY_TLS.format(chain=tls.chain, key=tls.key) if tls else ""
    (folder / "envoy.yaml").write_text(_ENVOY.format(port=port, target=target, ours=ours))
    # Without shared memory and its hot restart: several may run at once.
    command = (program, "-c", folder / "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "error")
    return running(command, port)


def _traefik(program: str, target: int, folder: Path, tls: Certificate | None) -> AbstractContextManager[int]:
    port = free_port()
    ours = f"tls:\n  certificates:\n  - certFile: {tls.chain}\n    keyFile: {tls.key}\n" if tls else ""
    (folder / "routes.yaml").write_text(
        "http:\n  routers:\n    all:\n      rule: PathPrefix(`/`)\n      service: one\n"
        f"{'      tls: {}' if tls else ''}\n"
        f"  services:\n    one:\n      loadBalancer:\n        servers:\n        - url: h2c://127.0.0.1:{target}\n{ours}"
    )
    command = (
        program,
        f"--entrypoints.one.address=127.0.0.1:{port}",
        f"--providers.file.filename={folder / 'routes.yaml'}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    )
    return _routed(running(command, port), over_tls=tls is not None)


@contextmanager
def _routed(server: AbstractContextManager[int], *, over_tls: bool) -> Iterator[int]:
    """Enter a server that listens before it has read what it routes, once it has."""
    with server as port:
        ends = monotonic() + 30
        while not _is_routed(port, over_tls=over_tls):
            assert monotonic() < ends, "it does not route"
            sleep(0.02)
        yield port


def _is_routed(port: int, *, over_tls: bool) -> bool:
    if over_tls:
        asking: HTTPConnection = HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context())
    else:
        asking = HTTPConnection("127.0.0.1", port)
    try:
        asking.request("GET", "/")
        return asking.getresponse().status != 404
    except ssl.SSLError:
        return False
    finally:
        asking.close()


class Proxy(NamedTuple):
    """How to run a proxy, and the Debian package that has it, or else its environment of `foreign_servers.py`."""

    run: Run
    package: str = ""

    def program(self, name: str) -> str:
        """Return the path of the program; skips the test where it cannot be had."""
        if self.package:
            found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
            if found is None:
                pytest.skip(f"{name} is not installed: apt install {self.package}")
            return found
        folder = installed(name)
        # Envoy's own script of that name stays in between.
        inner = folder.parent.glob("lib/*/site-packages/envoy/_bin/envoy")
        return str(next(inner, folder / name))


def installed(name: str) -> Path:
    """Return the folder with the programs of an environment of `foreign_servers.py`; skips where it cannot be made."""
    try:
        return make(name).parent
    except RuntimeError as exc:
        pytest.skip(f"needs {name}: {sys.executable} scripts/foreign_servers.py {name} (it said: {exc})")


PROXIES = {
    "nginx": Proxy(_nginx, "nginx"),
    "haproxy": Proxy(_haproxy, "haproxy"),
    "nghttpx": Proxy(_nghttpx, "nghttp2-proxy"),
    "caddy": Proxy(_caddy),
    "envoy": Proxy(_envoy),
    "traefik": Proxy(_traefik),
}
"""By program."""
