"""The most that one piece of work may hold, whoever sends it: what comes in is bounded in count, so that the work that
it makes is bounded by its bytes. Hosts bound the bytes.

`docs/bounds.md` says what each bound is for.
"""

from __future__ import annotations

from typing import Any

MAX_MESSAGES = 4096
"""Messages of a task."""
MAX_PARTS = 4096
"""Content parts and tool calls of all messages of a task, together."""
MAX_PROMPT_TOKENS = 1 << 20
"""Token ids of a prompt."""
MAX_TOKEN_ID = 2**31 - 1
"""Engines hold ids in 32 bits with a sign."""
MAX_STOP_STRINGS = 256
MAX_STOP_CHARACTERS = 8192
"""Of all stop strings of a task, together."""
MAX_TOOLS = 1024
MAX_PARAMETERS = 256
"""Parameters of a task or an inference, which an engine gets as they are."""
MAX_NAME = 512
"""Characters of a name: of a model, a version, a tool, a parameter, a tensor."""
MAX_URL = 8192
"""Characters of an image's URL."""
MAX_DEPTH = 64
"""How deeply JSON may be nested: a tool's parameters, a response's schema, a body."""
MAX_TIMEOUT_S = 7 * 24 * 3600.0
"""Seconds: what every timer and transport takes."""
MAX_TENSORS = 1024
"""Inputs of an inference, and outputs asked for."""
MAX_DIMS = 32
MAX_DIM = 2**63 - 1
"""Also of the number of elements: what the v2 protocol can say."""


def is_deeper_than(value: Any, most: int) -> bool:
    """Return whether lists and objects are nested in `value` more than `most` deep. Recursion-free."""
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list | tuple)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
