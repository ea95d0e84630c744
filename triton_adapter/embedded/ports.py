"""Free TCP ports on the loopback address."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack

from adapter_api.errors import ConfigurationError

LOOPBACK = "127.0.0.1"


def choose_ports(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """Return a port for each name: the wanted one, or a free one for `None`. All differ.

    Nobody holds them afterwards, so another program may still take one before it is used.

    Raises:
        ConfigurationError: A wanted port is taken or no port at all.
    """
    with ExitStack() as held:
        chosen = {}
        # The fixed ones first, lest one of them be handed out as free.
        for name, port in sorted(wanted.items(), key=lambda item: item[1] is None):
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            # As the server does; else a port whose last connections linger in TIME_WAIT would seem taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port or 0))
                # Two sockets that both allow reuse may bind one port; only one of them may listen.
                listener.listen(1)
            except (OSError, OverflowError) as error:
                raise port_taken(name, port, error) from error
            chosen[name] = listener.getsockname()[1]
        return chosen


def port_taken(name: str, port: int | None, reason: object) -> ConfigurationError:
    return ConfigurationError(
        f"{name} port {port} on {LOOPBACK} cannot be used ({reason}); stop what listens there, give another port, "
        "or give none to have a free one chosen"
    )
