"""Print how a server answers each question of the protocol, as JSON: `ask.py HOST:PORT MODEL`."""

from __future__ import annotations

import json
import sys

import grpc

from triton_adapter.wire import rpcs

_ASKED = (
    rpcs.SERVER_LIVE, rpcs.SERVER_READY, rpcs.SERVER_METADATA, rpcs.MODEL_METADATA, rpcs.MODEL_CONFIG,
    rpcs.MODEL_STATISTICS, rpcs.REPOSITORY_INDEX,
)  # fmt: skip


def main(address: str, model: str) -> None:
    found: dict[str, object] = {}
    with grpc.insecure_channel(address) as channel:

        def ask(rpc: rpcs.Rpc, **fields: str) -> object:  # type: ignore[type-arg]
            call = channel.unary_unary(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
            return call(rpc.request(**fields), timeout=10)

        for rpc in _ASKED:
            fields = {"name": model} if "name" in rpc.request.DESCRIPTOR.fields_by_name else {}
            found[rpc.name] = _outcome(lambda rpc=rpc, fields=fields: bool(ask(rpc, **fields)))
        found["listed"] = _outcome(lambda: [entry.name for entry in ask(rpcs.REPOSITORY_INDEX).models])  # type: ignore[attr-defined]
        found["name"] = _outcome(lambda: ask(rpcs.SERVER_METADATA).name)  # type: ignore[attr-defined]
        found["unknown model"] = _outcome(lambda: ask(rpcs.MODEL_READY, name="nosuch").ready)  # type: ignore[attr-defined]
    sys.stdout.write(json.dumps(found))


def _outcome(ask: object) -> object:
    try:
        return ask()  # type: ignore[operator]
    except grpc.RpcError as exc:
        return exc.code().name


main(*sys.argv[1:])
