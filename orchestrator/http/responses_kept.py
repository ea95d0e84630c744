"""The responses that requests name: to read them, and to go on from them. Those of other owners are not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_api import InvalidRequest
from orchestrator.http.problems import Refused
from orchestrator.http.responses_requests import previous_of, references_in
from orchestrator.sessions.responses import KeptResponse, Responses, size_of_item

PREFIX = "resp_"
"""Of a response's id; what follows is the task's `job_id`."""
_SHOWN = 128


def response_before(responses: Responses, owner: str | None, fields: Mapping[str, Any]) -> KeptResponse | None:
    """Return the response that a request goes on from."""
    name = previous_of(fields)
    if name is None:
        return None
    found = responses.get(owner, name)
    if found is None:
        raise Refused(
            "previous_response_not_found", f"'previous_response_id': {_not_kept(responses, 'response', name)}"
        )
    if found.status not in ("completed", "incomplete"):
        raise InvalidRequest(f"'previous_response_id': response {name[:_SHOWN]!r} is {found.status}, with no answer")
    return found


def items_named(responses: Responses, owner: str | None, fields: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the items that a request only names, by their ids."""
    named: dict[str, Mapping[str, Any]] = {}
    size = 0
    for item_id in references_in(fields):
        if item_id not in named:
            response = responses.get(owner, PREFIX + item_id.partition("_")[2].rpartition("_")[0])
            item = response.item(item_id) if response is not None else None
            if item is None:
                raise Refused("not_found", f"'input': {_not_kept(responses, 'item', item_id)}")
            named[item_id] = item
        size += size_of_item(named[item_id])
        if size > responses.conversation_bytes:
            raise InvalidRequest(
                f"'input': the items that it names take more than the {responses.conversation_bytes} bytes of a "
                "conversation; name less of them"
            )
    return named


def _not_kept(responses: Responses, what: str, name: str) -> str:
    return (
        f"no {what} {name[:_SHOWN]!r} is kept here: it was not stored, or deleted, or not used for "
        f"{responses.ttl_s:g} s (responses.ttl_s), or there was no room for it any more, or the host was started anew "
        "without a file for it (retention.file); send the conversation as 'input'"
    )


def require_response(responses: Responses, owner: str | None, name: str) -> KeptResponse:
    found = responses.get(owner, name)
    if found is None:
        raise Refused("not_found", _not_kept(responses, "response", name))
    return found
