"""Starts the program without its imports, by forking; executed as a script: `python fork_server.py FD`.

It imports what the program imports and then forks for every request that comes on the socket FD. A child is a process
of its own as any other, with its arguments, environment, standard streams and end; only the start of the interpreter
and the imports, which are most of what a short command does, it has behind it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import socket
import sys
from typing import Any

# None of them may start a thread: a child has only the one that forked.
_IMPORTED = (
    "adapter_api.testing",
    "anyio._backends._asyncio",
    "conformance_tests.command_line",
    "orchestrator.serve",
    "triton_adapter.adapter",
    "worker_adapter.cli",
    "worker_adapter.submission",
    "worker_adapter.commands.bench",
    "worker_adapter.commands.doctor",
    "worker_adapter.commands.submit",
)


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Answer requests until nobody can make one any more; in a child, return what it was asked to be."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _tell_the_end(*key.data)
                    continue
                data, fds, _, _ = socket.recv_fds(control, 1, 4)
                if not data:
                    return None
                request, streams = socket.socket(fileno=fds[0]), fds[1:]
                pid = os.fork()
                if pid == 0:
                    return _take(request, streams)
                for fd in streams:
                    os.close(fd)
                _tell(request, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, request))


def _take(request: socket.socket, streams: list[int]) -> dict[str, Any]:
    with request.makefile() as lines:
        order: dict[str, Any] = json.loads(lines.readline())
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    return order


def _tell_the_end(pid: int, request: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    _tell(request, os.waitstatus_to_exitcode(status))
    request.close()


def _tell(request: socket.socket, number: int) -> None:
    try:
        request.sendall(f"{number}\n".encode())
    except OSError:
        # Whoever asked is gone.
        return


def become(order: dict[str, Any]) -> None:
    """Make this process what it would be if it had been started anew."""
    # All that is the server's, such as its ends of what belongs to other children.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:0] = filter(None, order["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["worker-adapter", *order["arguments"]]
    sys.stdin, sys.stdout, sys.stderr = (_standard(number) for number in range(3))


def _leave_alone(names: list[str]) -> None:
    """Have the interpreter end without taking these modules apart: it would copy all that they hold by doing so."""
    for name in names:
        sys.modules.pop(name, None)


def _standard(number: int) -> io.TextIOWrapper:
    """Return a standard stream as the interpreter makes it for what is no terminal."""
    old = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    assert old is not None
    binary = open(number, "wb" if number else "rb", closefd=False)
    return io.TextIOWrapper(binary, encoding=old.encoding, errors=old.errors, line_buffering=number == 2)


if __name__ == "__main__":
    # The script's own folder, which holds tests.
    del sys.path[0]
    for module in _IMPORTED:
        importlib.import_module(module)
    # What an interpreter needs to its end stays its own; a circle that the collector does not see is never freed.
    theirs = [name for name in sys.modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "__main__"}]
    kept: list[Any] = [sys.modules[name] for name in theirs]
    kept.append(kept)
    # Else a child would look through all of it at its end, and copy it by doing so.
    gc.freeze()
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads run after the imports, and a fork would lose all but one"
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        become(asked)
        atexit.register(_leave_alone, theirs)
        runpy.run_module("worker_adapter", run_name="__main__")
