"""`worker-adapter submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adapter_api import InvalidRequest, TaskRequest
from worker_adapter import task_input
from worker_adapter.engine_options import AdapterOption, SettingsOption, UrlOption, make_adapter
from worker_adapter.event_output import JsonOutput, TextOutput
from worker_adapter.exit_codes import ExitCode

_TASK = "Task"
_SAMPLING = "Sampling"
_FORMAT = "Response format"
_OUTPUT = "Output"

# Stands in for the model until the engine is asked which it has.
_ANY_MODEL = "-"


def submit(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; '-' or nothing reads it from standard input.", show_default=False)
    ] = None,
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", rich_help_panel=_TASK, show_default="the only text model", help="Which model."),
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(rich_help_panel=_TASK, show_default="the engine's choice")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", rich_help_panel=_TASK, help="A system message.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(rich_help_panel=_TASK, help="An image file to show; may be repeated.")
    ] = None,
    messages: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_TASK, help="File with a JSON list of messages, in place of a prompt."),
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_TASK, help="File with a whole task as JSON ('-': standard input); options win over it."
        ),
    ] = None,
    tools: Annotated[
        Path | None, typer.Option(rich_help_panel=_TASK, help="File with a JSON list of tools the model may call.")
    ] = None,
    tool_choice: Annotated[str | None, typer.Option(rich_help_panel=_TASK, help="Which tool it must call.")] = None,
    timeout: Annotated[
        float | None, typer.Option(rich_help_panel=_TASK, metavar="SECONDS", help="For the whole task.")
    ] = None,
    job_id: Annotated[str | None, typer.Option(rich_help_panel=_TASK, show_default="a new one")] = None,
    session_id: Annotated[str | None, typer.Option(rich_help_panel=_TASK)] = None,
    priority: Annotated[Literal["interactive", "batch"] | None, typer.Option(rich_help_panel=_TASK)] = None,
    traceparent: Annotated[str | None, typer.Option(rich_help_panel=_TASK, help="W3C trace context.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_TASK,
            metavar="ENGINE.NAME=VALUE",
            help="Passed to the engine as it is, as in triton.lora_name=french; may be repeated.",
        ),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", rich_help_panel=_SAMPLING)] = None,
    min_tokens: Annotated[int | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t", rich_help_panel=_SAMPLING)] = None,
    top_p: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    top_k: Annotated[int | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    seed: Annotated[int | None, typer.Option(rich_help_panel=_SAMPLING, help="The same seed, the same text.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_SAMPLING, help="End before this text; may be repeated.")
    ] = None,
    presence_penalty: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    frequency_penalty: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    repetition_penalty: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    logprobs: Annotated[
        int | None, typer.Option(rich_help_panel=_SAMPLING, help="Alternatives per token; 0: the chosen one only.")
    ] = None,
    response_json: Annotated[bool, typer.Option("--response-json", rich_help_panel=_FORMAT, help="Any JSON.")] = False,
    response_json_schema: Annotated[
        Path | None, typer.Option(rich_help_panel=_FORMAT, help="JSON of the schema in this file.")
    ] = None,
    response_regex: Annotated[
        str | None, typer.Option(rich_help_panel=_FORMAT, help="A text that this regular expression matches.")
    ] = None,
    response_grammar: Annotated[
        Path | None, typer.Option(rich_help_panel=_FORMAT, help="A text of the EBNF grammar in this file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=_OUTPUT, help="Print one event per line, as JSON.")
    ] = False,
) -> ExitCode:
    """Send one task to an engine and stream the answer. Ctrl-C cancels the task in the engine.

    The text goes to standard output, a line of figures to standard error. Options left out are the engine's choice.
    """
    engine = make_adapter(url, adapter, option)
    fields: dict[str, Any] = _object_in(task) if task else {}
    given = {
        "model": model,
        "model_version": model_version,
        "tools": task_input.read_json(tools) if tools else None,
        "tool_choice": tool_choice,
        "timeout_s": timeout,
        "job_id": job_id,
        "session_id": session_id,
        "priority": priority,
        "traceparent": traceparent,
        "parameters": dict(map(task_input.parse_parameter, parameter)) if parameter else None,
        "max_tokens": max_tokens,
        "min_tokens": min_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": stop or None,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "repetition_penalty": repetition_penalty,
        "logprobs": logprobs,
        "response_format": _response_format(response_json, response_json_schema, response_regex, response_grammar),
    }
    fields |= {name: value for name, value in given.items() if value is not None}
    fields |= _input(prompt, messages, system, image or [], has_task=task is not None)
    choose_model = "model" not in fields
    request = TaskRequest.parse({"model": _ANY_MODEL, **fields})
    from worker_adapter.submission import Submission

    output = JsonOutput() if as_json else TextOutput()
    return Submission(engine, request, output, choose_model=choose_model).run()


def _input(
    argument: str | None, messages: Path | None, system: str | None, images: list[Path], *, has_task: bool
) -> dict[str, Any]:
    """Return the fields `prompt` and `messages`; those that nothing was given for are absent."""
    prompt = task_input.read_prompt(argument, has_other_input=has_task or messages is not None)
    turns = list(task_input.read_json(messages)) if messages else []
    if (images or system is not None) and prompt is not None:
        turns.append(task_input.user_message(prompt, images))
        prompt = None
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    fields: dict[str, Any] = {}
    if prompt is not None:
        fields["prompt"] = prompt
    if turns or messages is not None:
        fields["messages"] = turns
    return fields


def _object_in(path: Path) -> dict[str, Any]:
    found = task_input.read_json(path)
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path} holds no JSON object, and a task is one")
    return found


def _response_format(
    any_json: bool, schema: Path | None, regex: str | None, grammar: Path | None
) -> dict[str, Any] | None:
    formats: list[dict[str, Any]] = []
    if any_json:
        formats.append({"type": "json"})
    if schema is not None:
        formats.append({"type": "json_schema", "json_schema": task_input.read_json(schema)})
    if regex is not None:
        formats.append({"type": "regex", "regex": regex})
    if grammar is not None:
        formats.append({"type": "grammar", "grammar": task_input.read_text(grammar)})
    if len(formats) > 1:
        raise InvalidRequest("give one --response-… option: a text has one format")
    return formats[0] if formats else None
