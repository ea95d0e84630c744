"""One call as a name and an object of arguments, read while it comes."""

from __future__ import annotations

import re
from collections.abc import Container

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.grammar import NAME_LETTER, NameThenJson
from adapter_kit.tool_calls.json_object import Broken
from adapter_kit.tool_calls.json_text import nested
from adapter_kit.tool_calls.parts import Parts
from adapter_kit.tool_calls.source import NoCall, Reading, Source, Words, run, until

LETTERS = re.compile(rf"{NAME_LETTER}*")
_LONGEST_HEAD = 2 * MAX_NAME


def read_name_then_json(
    source: Source, parts: Parts, how: NameThenJson, known: Container[str] | None, stops: Words
) -> Reading[None]:
    """Read one call.

    Args:
        source: What is read; as long as the call has not begun, it is held.
        parts: Where the call goes.
        how: What stands before the arguments.
        known: The tools there are, where a call is one by its name only; any where absent.
        stops: The brace that arguments begin with, and what no call goes on behind.

    Raises:
        NoCall: It is none.
        Broken: It is one, and its arguments are not.
    """
    first = yield from run(source, LETTERS, limit=_LONGEST_HEAD)
    if known is not None and not _is_known(first, known, how):
        raise NoCall
    pieces = [first]
    stop = yield from until(source, stops, pieces.append, limit=_LONGEST_HEAD)
    found = how.head.fullmatch("".join(pieces))
    if found is None or len(found["name"]) > MAX_NAME:
        raise NoCall
    name = found["name"]
    if stop != "{" and (not stop or known is not None or found[0].strip() == name):
        raise NoCall
    if known is not None and name not in known:
        name = name[: -how.id_letters or None]
        if name not in known:
            raise NoCall
    source.release()
    parts.begin(name, found.groupdict().get("id"))
    if stop != "{":
        parts.arguments("{}")
        parts.end()
        return
    try:
        yield from nested(source, parts.arguments)
    except NoCall:
        raise Broken from None
    parts.end()


def _is_known(first: str, known: Container[str], how: NameThenJson) -> bool:
    found = how.head.fullmatch(first)
    if found is None:
        return True  # there is more of it to come
    return found["name"] in known or bool(how.id_letters and found["name"][: -how.id_letters] in known)
