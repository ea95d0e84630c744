"""`worker-adapter chat`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapter_api import ConfigurationError, InvalidRequest
from worker_adapter.engine_options import AdapterOption, SettingsOption, UrlOption, make_adapter
from worker_adapter.event_output import JsonOutput, TextOutput
from worker_adapter.exit_codes import ExitCode
from worker_adapter.terminal import note

_CHAT, _SAMPLING = "Chat", "Sampling"
_TIMEOUT_S = 600.0


def chat(
    target: Annotated[str | None, typer.Argument(metavar="[URL]", help="As --url.", show_default=False)] = None,
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", rich_help_panel=_CHAT, show_default="the only text model", help="Which model."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", rich_help_panel=_CHAT, help="The system prompt.", show_default=False)
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(rich_help_panel=_CHAT, help="A picture for the first question; may be repeated."),
    ] = None,
    history: Annotated[
        int | None,
        typer.Option(rich_help_panel=_CHAT, show_default="MAX_HISTORY, or 5", help="Turns that are remembered."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(rich_help_panel=_CHAT, metavar="SECONDS", help="For a whole answer.")
    ] = _TIMEOUT_S,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", "-n", rich_help_panel=_SAMPLING, show_default="MAX_NEW_TOKENS, or 512", help="Per answer."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-t", rich_help_panel=_SAMPLING, show_default="the engine's choice")
    ] = None,
    top_p: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING, show_default="the engine's choice")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one event per line, as JSON.")] = False,
) -> ExitCode:
    """Talk with a model. Each line is a question; /help says what else a line may be.

    Ctrl-C stops an answer, Ctrl-D ends the chat. With standard input piped, the answers alone go to standard output,
    and the first error ends it.
    """
    if target is not None and url is not None and target != url and os.environ.get("WORKER_ADAPTER_URL") != url:
        raise InvalidRequest("the URL was given twice: as an argument and by --url")
    from adapter_clients import ChatSettings, SyncChatClient
    from worker_adapter.chat.conversation import Conversation
    from worker_adapter.chat.dialogue import converse
    from worker_adapter.chat.lines import PipedLines, TypedLines

    given = {
        "model": model, "system": system, "max_history": history, "timeout_s": timeout, "max_new_tokens": max_tokens,
        "temperature": temperature, "top_p": top_p,
    }  # fmt: skip
    settings = ChatSettings.from_env(os.environ, **{name: value for name, value in given.items() if value is not None})
    if sys.stdin is None:
        raise ConfigurationError("there is no standard input to read questions from")
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    engine = make_adapter(target or url, adapter, option)
    with SyncChatClient(engine, settings) as client:
        talk = Conversation(client, JsonOutput if as_json else TextOutput)
        talk.images += map(str, image or ())
        try:
            talk.model = client.model().name
        except InvalidRequest as exc:
            if not interactive:
                raise InvalidRequest(exc.message.replace("set `model`", "choose one with --model")) from None
            note(exc.message.replace("set `model`", "choose one with /model NAME"), "yellow")
        if interactive:
            note(f"{talk.model or engine.engine}: /help says what can be said, Ctrl-D ends the chat")
        return converse(talk, TypedLines() if interactive else PipedLines())
