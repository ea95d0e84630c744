"""What a client is told of an error: what its adapter says, but not where the engine is, and not without end."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from adapter_api import AdapterError, End, Terminal
from adapter_kit.addresses import host_names, without_addresses
from orchestrator.pools.replica import Replica
from orchestrator.pools.ticket import Ticket

LONGEST_MESSAGE = 2000
_LEAST_NAME = 3


def told(terminal: Terminal, ticket: Ticket) -> Terminal:
    """Return how work ended, as its client may know it; the log has it as it is."""
    if isinstance(terminal, End):
        return terminal
    ticket.untold = ticket.untold or terminal.message
    return msgspec.structs.replace(terminal, message=_message_for(terminal.message, ticket))


def tell(error: AdapterError, ticket: Ticket) -> AdapterError:
    """Make `error` one that the client may know, and return it."""
    ticket.untold = error.message
    return _told_as(error, _message_for(error.message, ticket))


def tell_of_model(error: AdapterError, model: str, replicas: Iterable[Replica]) -> AdapterError:
    """Make an error of replicas that were asked about a model one that the client may know, and return it."""
    return _told_as(error, _message(error.message, model, replicas))


def _told_as(error: AdapterError, message: str) -> AdapterError:
    error.message = message
    error.args = (message,)
    return error


def _message_for(message: str, ticket: Ticket) -> str:
    return _message(message, ticket.work.model, ticket.pool.replicas.values())


def _message(message: str, model: str, replicas: Iterable[Replica]) -> str:
    names = {name for replica in replicas for name in host_names(replica.settings.adapter_options)}
    shown = message[:LONGEST_MESSAGE]
    # The client knows the model's name, which may be the path of a file.
    pieces = shown.split(model) if len(model) >= _LEAST_NAME else [shown]
    shown = model.join(without_addresses(piece, names) for piece in pieces)
    return shown if len(message) <= LONGEST_MESSAGE else f"{shown}…"
