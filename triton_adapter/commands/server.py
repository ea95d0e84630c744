"""What every command that asks one Triton something has: which server, and how the answer is printed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
import typer

from adapter_api.options import parse_options
from adapter_kit.printable import printable_line, width_of
from triton_adapter.adapter import TritonAdapter
from triton_adapter.settings import TritonSettings

T = TypeVar("T")

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", "-u", metavar="URL", envvar="WORKER_ADAPTER_URL", show_default="ORCHD_TRITON_URL or localhost:8001",
        help="Triton's gRPC port, as in grpc://host:8001.",
    ),
]  # fmt: skip
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE", show_default=False,
        help="A setting of the adapter, as in tls.ca_file=ca.pem; may be repeated.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def ask(url: str | None, options: Sequence[str] | None, question: Callable[[TritonAdapter], Awaitable[T]]) -> T:
    """Return what `question` returns for an adapter that is open meanwhile; raises the contract's errors."""
    given = parse_options(options or ())
    settings = TritonSettings.from_env(os.environ, **({"url": url} if url is not None else {}), **given)

    async def run() -> T:
        async with TritonAdapter(settings) as adapter:
            return await question(adapter)

    return anyio.run(run)


def print_json(document: Any) -> None:
    """Print one JSON document on one line."""
    typer.echo(msgspec.json.encode(document).decode())


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print left-aligned columns as wide as their contents; "-" stands for nothing."""
    cells = [[printable_line(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(headings, *cells, strict=True)]
    for row in (headings, *cells):
        padded = [cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(padded).rstrip())
