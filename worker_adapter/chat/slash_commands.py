"""What can be said to the program in a conversation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter_api import Capability, InvalidRequest
from worker_adapter.chat.conversation import Conversation
from worker_adapter.chat.line import Command, paths_in
from worker_adapter.terminal import note

_LISTED = 30


class Leave(Exception):
    """The conversation is over."""


def _help(chat: Conversation, rest: str) -> None:
    for name, (_, usage, what) in COMMANDS.items():
        if usage is not None:
            note(f"/{name} {usage}".ljust(22) + f"  {what}")
    note("A line that ends in \\ goes on in the next. Ctrl-C stops an answer; Ctrl-D ends the chat.")
    note("Drag a picture into the window, or write its path, to show it.")


def _clear(chat: Conversation, rest: str) -> None:
    chat.clear()
    note("forgotten")


def _system(chat: Conversation, rest: str) -> None:
    if rest:
        chat.system = None if rest == "-" else rest
    note(f"system prompt: {chat.system}" if chat.system else "no system prompt; /system TEXT sets one")


def _model(chat: Conversation, rest: str) -> None:
    if rest:
        props = chat.client.model(rest)
        chat.model = props.name
        sees = bool(props.capabilities & {Capability.IMAGES, Capability.IMAGE_URLS})
        note(f"model: {props.name}{', which takes images' if sees else ''}")
        return
    note(f"model: {chat.model or 'none chosen yet'}")
    names = chat.model_names()
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    note(f"there are: {', '.join(names[:_LISTED])}{more}" if names else "the engine does not tell which there are")


def _image(chat: Conversation, rest: str) -> None:
    if rest == "-":
        chat.images.clear()
        rest = ""
    for path in paths_in(rest):
        if "://" not in path[:16] and not path.startswith("data:") and not Path(path).is_file():
            raise InvalidRequest(f"there is no file {path}")
        chat.images.append(path)
    told = f"with the next question: {', '.join(chat.images)}" if chat.images else "no image; /image PATH shows one"
    note(told)


def _history(chat: Conversation, rest: str) -> None:
    messages = chat.client.history()
    for message in messages:
        shown = f" [{len(message.images)} image{'s'[: len(message.images) != 1]}]" if message.images else ""
        note(f"{message.role}:{shown} {message.text}")
    if not messages:
        note("nothing was said yet")


def _save(chat: Conversation, rest: str) -> None:
    names = paths_in(rest)
    if not chat.transcript.turns:
        raise InvalidRequest("nothing was said yet that could be saved")
    if len(names) != 1:
        raise InvalidRequest("/save takes the name of one new file, as in /save chat.md")
    chat.transcript.save(Path(names[0]).expanduser(), system=chat.system)
    turns = len(chat.transcript.turns)
    note(f"saved {turns} question{'s'[: turns != 1]} and what was answered in {names[0]}")


def _exit(chat: Conversation, rest: str) -> None:
    raise Leave


COMMANDS: dict[str, tuple[Callable[[Conversation, str], Any], str | None, str]] = {
    "help": (_help, "", "what can be said"),
    "clear": (_clear, "", "forget what was said"),
    "system": (_system, "[TEXT|-]", "show, set or drop the system prompt"),
    "model": (_model, "[NAME]", "show the models, or choose one"),
    "image": (_image, "[PATH…|-]", "show pictures with the next question, or none"),
    "history": (_history, "", "what goes with the next question"),
    "save": (_save, "FILE", "write the conversation into a file, .md or .json"),
    "exit": (_exit, "", "end the chat"),
    "quit": (_exit, None, ""),
    "bye": (_exit, None, ""),
}
"""What each does, what it takes, and what it is for; those without a form are second names."""

NAMES = frozenset(COMMANDS)


def obey(chat: Conversation, command: Command) -> None:
    """Do what a command says.

    Raises:
        Leave: The conversation is over.
        InvalidRequest: There is no such command, or it cannot be done; nothing changed.
        AdapterError: The engine cannot be asked for what it needs.
    """
    known = COMMANDS.get(command.name)
    if known is None:
        raise InvalidRequest(
            f"there is no /{command.name}: /help lists what there is, and a question may begin with //"
        )
    known[0](chat, command.rest)
