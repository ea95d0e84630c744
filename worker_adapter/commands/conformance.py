"""`worker-adapter conformance`: the suite's own command line, which has exit codes of its own."""

from __future__ import annotations

import typer

conformance = typer.Typer(add_completion=False)


@conformance.command(
    name="conformance",
    # Everything is the suite's to read, `--help` included.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def _conformance(ctx: typer.Context) -> None:
    """Run the conformance suite on an adapter, as `python -m conformance_tests` does."""
    from conformance_tests.command_line import main

    raise typer.Exit(main(ctx.args))
