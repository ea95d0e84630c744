"""What the OpenAI API's requests ask for, as tasks. What cannot be honoured is refused by name, never dropped.

What every face of that API reads alike is `adapter_kit.openai`'s; here is what this host alone has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from adapter_api import InvalidRequest, PromptToken, TaskRequest, Unsupported, new_job_id
from adapter_kit.openai import requests
from adapter_kit.openai.lax import as_meant, whole
from adapter_kit.openai.requests import (
    CHAT,
    COMPLETION,
    chat_of,
    completion_of,
    flag,
    parameters_of,
    part_of_prompt,
    prompts_of,
    wants_running_usage,
    wants_usage,
)
from orchestrator.config.server import LimitSettings
from orchestrator.http.one_call import wants_one_call
from orchestrator.http.reading import trace_of
from orchestrator.pools.fit import ANY_ENGINE

__all__ = ["CHAT", "COMPLETION", "OF_THIS_HOST", "SAME", "Asked", "common_fields", "parse_chat", "parse_completion"]

_OURS = ("model", "priority", "session_id", "job_id", "parameters", "timeout_s")
SAME = (*requests.SAME, *_OURS)
"""Fields that mean the same in a task; those the OpenAI API does not know are sent as `extra_body`."""


_OWN_OF_ANSWERS = ("n", "return_token_ids", "prompt_logprobs")
_OWN_OF_COMPLETIONS = (*_OWN_OF_ANSWERS, "best_of", "echo")
"""Fields that this host does itself, whatever the engine: several tasks of one request, the prompt before its text."""
_NO_MODEL = "\0"
_LONGEST_ID = 256
_PROMPTS = ("prompt", "prompt_token_ids")
OF_THIS_HOST = frozenset({*_OURS, "history"})
"""What every face takes beside its own fields."""
_OF_CHATS = CHAT | OF_THIS_HOST | {*_OWN_OF_ANSWERS, "include_reasoning"}
_OF_COMPLETIONS = COMPLETION | OF_THIS_HOST | {*_OWN_OF_COMPLETIONS}
MOST_CHOICES = LimitSettings().max_choices
"""Answers to one request, unless the settings say otherwise."""
MAX_ECHOED = 1 << 24
"""Characters of prompts before several answers to each: more than came would be sent back."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the OpenAI face: a task for each choice, `n` for each prompt."""

    tasks: tuple[TaskRequest, ...]
    n: int
    stream: bool
    include_usage: bool
    history: bool
    echo: bool
    only_prompt: bool
    """Whether no answer is shown: `echo` with `max_tokens` 0."""
    shows_scores: bool
    """Whether an answer tells how likely its prompt is, beside what `logprobs` say of its tokens."""
    scored_for: str
    """Why a task asks how likely its prompt is, in the request's words; empty where none does."""
    reasoning: bool
    """Whether thoughts are shown."""
    one_call: bool
    """Whether each answer has one tool call at most."""
    ignored: tuple[str, ...]
    """Fields that nobody knows."""
    names_model: bool
    """Whether it says which model; if not, `of_model` has to."""
    request_id: str | None
    """What the client calls it."""

    @property
    def role(self) -> str:
        """Whose turn the answer of a chat is: that of the last message, where none is begun."""
        task = self.task
        begun = not task.continue_final_message and task.add_generation_prompt is not False
        return task.messages[-1].role if task.messages and not begun else "assistant"

    @property
    def task(self) -> TaskRequest:
        """The first of them, which the answer has its id from."""
        return self.tasks[0]

    def echo_of(self, task: TaskRequest, scored: Sequence[PromptToken]) -> str:
        """Return what stands before the text of a task's answer; of token ids only the engine knows their text."""
        if not self.echo:
            return ""
        return task.prompt if task.prompt is not None else "".join(token.text for token in scored)

    def of_model(self, name: str) -> Asked:
        """Return the same, asked of a model."""
        tasks = tuple(task.model_copy(update={"model": name}) for task in self.tasks)
        return msgspec.structs.replace(self, tasks=tasks, names_model=True)


def parse_chat(fields: dict[str, Any], headers: Mapping[str, str], most: int = MOST_CHOICES) -> Asked:
    """Return what a chat completion asks for, `most` answers; raises `InvalidRequest` or `Unsupported`."""
    fields = _with_model(as_meant(fields))
    ignored: list[str] = []
    common = common_fields(fields, headers, _OF_CHATS, ignored)
    _require_few(1, _count(fields, "n"), most)
    return _asked([{**common, **chat_of(fields, ignored)}], fields, ignored, one_call=wants_one_call(fields))


def parse_completion(fields: dict[str, Any], headers: Mapping[str, str], most: int = MOST_CHOICES) -> Asked:
    """Return what a completion asks for, `most` answers; raises `InvalidRequest` or `Unsupported`."""
    fields = _with_model(as_meant(fields, logprobs=whole))
    ignored: list[str] = []
    common = common_fields(fields, headers, _OF_COMPLETIONS, ignored)
    n, best = _count(fields, "n"), _count(fields, "best_of")
    if best not in (1, n):
        raise Unsupported("'best_of' is not supported here, unless it is 'n'; leave it out")
    echo = flag(fields, "echo")
    prompts = prompts_of(fields)
    if "" in prompts:
        raise InvalidRequest("'prompt' is empty: send at least one character")
    _require_few(len(prompts), n, most)
    if echo and n > 1 and (echoed := sum(map(len, prompts)) * n) > MAX_ECHOED:
        raise InvalidRequest(
            f"'echo' before {n} answers to each prompt makes {echoed} characters; there may be {MAX_ECHOED}: ask for "
            "less answers at a time"
        )
    only_prompt = echo and fields.get("max_tokens") == 0
    if only_prompt:
        fields = {**fields, "max_tokens": 1}  # engines make at least one, and nobody sees it
    first = completion_of({**fields, "prompt": prompts[0]})
    if echo and fields.get("logprobs") is not None:
        first["prompt_logprobs"] = fields["logprobs"]
    elif echo and not isinstance(prompts[0], str):
        first["prompt_logprobs"] = 0  # only the engine knows their text
    first = {name: value for name, value in first.items() if name not in ("prompt", "prompt_token_ids")}
    asked = [{**common, **first, **part_of_prompt(prompt)} for prompt in prompts]
    return _asked(asked, fields, ignored, only_prompt=only_prompt)


def common_fields(
    fields: dict[str, Any], headers: Mapping[str, str], taken: frozenset[str], ignored: list[str]
) -> dict[str, Any]:
    """Return the parts of a task that every request may have; raises `Unsupported` for what nobody here can do.

    Args:
        fields: Of a request.
        headers: Of the request.
        taken: Fields that the caller reads itself, and `OF_THIS_HOST`.
        ignored: Gets the names of fields that nobody knows.
    """
    task, engines = requests.common_of(fields, taken, ignored)
    task |= {name: fields[name] for name in _OURS if fields.get(name) is not None}
    if task.get("session_id") == "":
        del task["session_id"]  # none, says vLLM's server
    if isinstance(priority := task.get("priority"), int) and not isinstance(priority, bool):
        del task["priority"]  # a number orders an engine's own queue, and this host's line has two classes
    if engines:
        given = task.get("parameters", {})
        task["parameters"] = {**parameters_of(engines, ANY_ENGINE), **given} if isinstance(given, dict) else given
    return {**task, **trace_of(headers)}


def _asked(
    prompts: list[dict[str, Any]],
    fields: dict[str, Any],
    ignored: list[str],
    *,
    only_prompt: bool = False,
    one_call: bool = False,
) -> Asked:
    n = _count(fields, "n")
    include_usage = wants_usage(fields, ignored)
    stream = flag(fields, "stream")
    if fields.get("stream_options") and not stream:
        raise InvalidRequest("'stream_options' are for streams: leave them out, or say 'stream': true")
    if flag(fields, "return_token_ids"):
        prompts[0]["return_token_ids"] = True
    scored_for = "" if "prompt_logprobs" not in prompts[0] else "'echo' of token ids"
    if scored_for and fields.get("logprobs") is not None:
        scored_for = "'echo' with 'logprobs'"
    wanted = _prompt_logprobs(fields)
    if wanted is not None:
        prompts[0]["prompt_logprobs"], scored_for = wanted, "'prompt_logprobs'"
    if stream and include_usage and wants_running_usage(fields):
        prompts[0]["running_usage"] = True
    first = TaskRequest.parse(prompts[0])
    history = flag(fields, "history")
    if history and len(prompts) * n > 1:
        raise Unsupported("'history' remembers one answer: ask for one")
    return Asked(
        tasks=tuple(_choices(first, prompts, n)),
        n=n,
        stream=stream,
        include_usage=include_usage,
        history=history,
        echo=flag(fields, "echo"),
        only_prompt=only_prompt,
        scored_for=scored_for,
        shows_scores=wanted is not None or (flag(fields, "echo") and fields.get("logprobs") is not None),
        reasoning=fields.get("include_reasoning") is None or flag(fields, "include_reasoning"),
        one_call=one_call,
        ignored=tuple(ignored),
        names_model=fields["model"] != _NO_MODEL,
        request_id=request_id_of(fields),
    )


def request_id_of(fields: Mapping[str, Any]) -> str | None:
    """Return what the client calls its request in its body."""
    found = fields.get("request_id")
    return found[:_LONGEST_ID] if isinstance(found, str) and found else None


def _prompt_logprobs(fields: Mapping[str, Any]) -> int | None:
    """Return how many tokens of each place of the prompt are asked for; as at vLLM, only whole answers tell them."""
    wanted = fields.get("prompt_logprobs")
    if wanted is None:
        return None
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < -1:
        raise InvalidRequest("'prompt_logprobs' must be a whole number from 0 on, or -1 for all tokens there are")
    if not flag(fields, "stream"):
        return wanted
    if wanted:
        raise InvalidRequest("'prompt_logprobs' are not available in streams: leave 'stream' out")
    return None


def _choices(first: TaskRequest, prompts: list[dict[str, Any]], n: int) -> Iterator[TaskRequest]:
    for position, prompt in enumerate(prompts):
        task = first
        if position:  # what is the same of all is looked at once
            given = {name: prompt[name] for name in _PROMPTS if name in prompt}
            alone = TaskRequest.parse({"model": first.model, **given})
            task = first.model_copy(update={name: getattr(alone, name) for name in _PROMPTS})
        for number in range(n):
            changes: dict[str, Any] = {}
            if position or number:
                changes["job_id"] = new_job_id()
            if number and task.seed is not None:
                # Else all answers were the same. vLLM does likewise: v1/engine/parallel_sampling.py
                changes["seed"] = (task.seed + number) % 2**63
            yield task.model_copy(update=changes) if changes else task


def _with_model(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with something for a model, so that the rest can be looked at where none is named."""
    return fields if fields.get("model") else {**fields, "model": _NO_MODEL}


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"{name!r} must be a whole number from 1 on")
    return value


def _require_few(prompts: int, n: int, most: int) -> None:
    if prompts * n <= most:
        return
    bound = f"there may be {most} to a request (server.limits.max_choices)"
    if prompts == 1:
        raise InvalidRequest(f"'n' asks for {n} answers; {bound}")
    raise InvalidRequest(
        f"'prompt' has {prompts} prompts, which makes {prompts * n} answers with 'n' {n}; {bound}: send "
        f"{max(most // n, 1)} prompts at a time"
    )
