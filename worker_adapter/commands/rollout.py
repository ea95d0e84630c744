"""`worker-adapter rollout`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import msgspec
import typer

from adapter_api import ConfigurationError, ConnectFailed, EngineFailed, PermissionDenied
from worker_adapter.engine_options import JsonOption
from worker_adapter.reporting import write_json
from worker_adapter.terminal import note, print_table, say

_TIMEOUT_S = 10.0

rollout = typer.Typer(help="Compare pools of a running host.", no_args_is_help=True)


@rollout.callback()
def _rollout() -> None:
    """Compare pools of a running host."""


@rollout.command()
def report(
    url: Annotated[
        str, typer.Option("--url", "-u", envvar="WORKER_ADAPTER_HOST_URL", help="The host, as `serve` tells it.")
    ] = "http://127.0.0.1:8080",
    api_key: Annotated[
        str | None,
        typer.Option(envvar="WORKER_ADAPTER_API_KEY", help="A key with watch; better given in the environment."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report with its drawings to this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put the last tasks of every pool side by side: latency, throughput, errors, and how shadows agree."""
    document = _fetch(url.rstrip("/") + "/v2/rollout", api_key)
    if html is not None:
        html.write_text(_render(document), encoding="utf-8")
        note(f"wrote {html}")
    if as_json:
        write_json(document)
    elif html is None:
        _print(msgspec.json.decode(document))


def _fetch(url: str, api_key: str | None) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError("--url is the host's, and begins with http:// or https://")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S) as response:
            body: bytes = response.read()
            return body
    except HTTPError as exc:
        if exc.code in (401, 403):
            raise PermissionDenied("the host wants an API key with watch or admin: set WORKER_ADAPTER_API_KEY") from exc
        raise EngineFailed(f"the host answered {exc.code}; is {url} a worker-adapter host?") from exc
    except (URLError, OSError) as exc:
        raise ConnectFailed(f"no host answers at {url}; is `worker-adapter serve` running?") from exc


def _render(document: bytes) -> str:
    from orchestrator.rollout.page import render
    from orchestrator.rollout.report import RolloutReport

    return render(msgspec.json.decode(document, type=RolloutReport))


def _print(found: dict[str, Any]) -> None:
    rows = [
        (pool["pool_id"], pool["shadow_of"] or f"weight {pool['weight']}", str(pool["tasks"]), str(pool["failed"]),
         figures(pool["ttft_ms"]), figures(pool["total_ms"]), figures(pool["tokens_per_s"]))
        for pool in found["pools"]
    ]  # fmt: skip
    print_table(("POOL", "SHARE", "TASKS", "FAILED", "FIRST TOKEN MS", "WHOLE TASK MS", "TOKENS/S"), rows)
    for each in found["agreements"]:
        share = f"{each['same_text']} of {each['compared']} answers are the same"
        if each.get("same_tool_calls") not in (None, each["compared"]):
            share += f", {each['same_tool_calls']} in their tool calls"
        if (boxes := each.get("boxes")) is not None:
            share = f"in {boxes['same']} of {boxes['compared']} answers the boxes are the same"
            if boxes["overlap"]["count"]:
                share += f", partners overlap by {boxes['overlap']['p50']:.1f} % (median)"
            if boxes["unreadable"]:
                share += f", {boxes['unreadable']} had no boxes to read"
        say(f"{each['shadow_id']} as shadow of {each['pool_id']}: {share}, {each['skipped']} tasks left out")


def figures(spread: dict[str, Any]) -> str:
    """Return the median, the 90th and the 99th percentile for people; nothing where nothing was measured."""
    three = (spread["p50"], spread["p90"], spread["p99"])
    return (
        " / ".join(f"{figure:.0f}" if figure >= 999.5 else f"{figure:.3g}" for figure in three)
        if spread["count"]
        else ""
    )
