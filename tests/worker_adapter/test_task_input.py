"""How options, files and standard input become a task. A stranger's adapter says what it was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker_adapter.program import Finished, run
from tests.worker_adapter.strangers import install

PNG = b"\x89PNG\r\n\x1a\n"

ECHO = """
from adapter_api import AdapterPlugin, End, EngineProps, HealthReport, Started, Token, WorkerAdapter, hookimpl

class Echo(WorkerAdapter):
    engine = "echo"
    async def _submit(self, task):
        yield Started(job_id=task.job_id, engine="echo", model=task.model)
        yield Token(0, task.model_dump_json(exclude_defaults=True))
        yield End(finish_reason="stop")
    async def _health(self, *, canary):
        raise AssertionError
    async def _props(self):
        raise AssertionError

@hookimpl
def worker_adapter_register():
    return AdapterPlugin(name="echo", adapter="echo_plugin:Echo", api_version="1.0")
"""


class Echo:
    """Submits to an adapter whose answer is the task."""

    def __init__(self, folder: Path) -> None:
        self._env = install(folder, "echo", ECHO)

    def run(self, *arguments: str, stdin: str | bytes = "") -> Finished:
        return run("submit", "--adapter", "echo", "--model", "m", *arguments, stdin=stdin, env=self._env)

    def task(self, *arguments: str, stdin: str | bytes = "") -> dict[str, Any]:
        result = self.run(*arguments, stdin=stdin)
        assert result.code == 0, result.err
        found: dict[str, Any] = json.loads(result.out)
        found.pop("job_id", None)
        return found


@pytest.fixture
def echo(tmp_path: Path) -> Echo:
    return Echo(tmp_path)


def test_what_is_not_given_is_not_sent(echo: Echo) -> None:
    assert echo.task("hello") == {"model": "m", "prompt": "hello"}


def test_every_sampling_option_reaches_the_task(echo: Echo) -> None:
    options = {
        "max_tokens": 5, "min_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 11,
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "repetition_penalty": 1.1, "logprobs": 2,
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    assert echo.task(*arguments, "hello") == {"model": "m", "prompt": "hello", **options}


def test_every_other_option_reaches_the_task(echo: Echo) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"

    task = echo.task(
        "--model-version", "2", "--timeout", "9.5", "--session-id", "s", "--priority", "batch",
        "--traceparent", trace, "--stop", "one", "--stop", "two", "hello",
    )  # fmt: skip

    assert task == {
        "model": "m", "prompt": "hello", "model_version": "2", "timeout_s": 9.5, "session_id": "s",
        "priority": "batch", "traceparent": trace, "stop": ["one", "two"],
    }  # fmt: skip


def test_the_job_id_is_the_one_that_was_given(echo: Echo) -> None:
    assert json.loads(echo.run("--job-id", "mine-1", "hello").out)["job_id"] == "mine-1"


def test_parameters_keep_their_types(echo: Echo) -> None:
    task = echo.task(
        "--parameter", "triton.a=1", "--parameter", "triton.b=x=y", "--parameter", "triton.c=true", "hello"
    )

    assert task["parameters"] == {"triton.a": 1, "triton.b": "x=y", "triton.c": True}


@pytest.mark.parametrize("argument", [("-",), ()])
def test_the_prompt_may_come_from_standard_input(echo: Echo, argument: tuple[str, ...]) -> None:
    assert echo.task(*argument, stdin="two\nlines\n")["prompt"] == "two\nlines"


def test_a_system_message_makes_the_prompt_the_users_turn(echo: Echo) -> None:
    assert echo.task("--system", "Be brief.", "hello")["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ]


def test_an_image_is_carried_by_value_with_its_type(echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)

    (message,) = echo.task("--image", str(tmp_path / "a.png"), "what is it?")["messages"]

    assert message["content"] == [
        {"text": "what is it?"} | ({"type": "text"} if "type" in message["content"][0] else {}),
        {"data": "iVBORw0KGgo=", "media_type": "image/png"}
        | ({"type": "image"} if "type" in message["content"][1] else {}),
    ]


def test_messages_come_from_a_file(echo: Echo, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    (tmp_path / "turns.json").write_text(json.dumps(turns))

    assert echo.task("--messages", str(tmp_path / "turns.json"))["messages"] == turns


def test_a_whole_task_comes_from_a_file_and_options_win_over_it(echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(json.dumps({"model": "x", "prompt": "hello", "max_tokens": 5, "seed": 1}))

    task = echo.task("--task", str(tmp_path / "task.json"), "--max-tokens", "6")

    assert task == {"model": "m", "prompt": "hello", "max_tokens": 6, "seed": 1}


def test_a_task_comes_from_standard_input(echo: Echo) -> None:
    assert echo.task("--task", "-", stdin='{"prompt": "hello"}') == {"model": "m", "prompt": "hello"}


@pytest.mark.parametrize(
    "option, content, expected",
    [
        ("--response-json-schema", '{"type": "object"}', {"type": "json_schema", "json_schema": {"type": "object"}}),
        ("--response-grammar", "root ::= 'a'", {"type": "grammar", "grammar": "root ::= 'a'"}),
    ],
)
def test_a_response_format_comes_from_a_file(
    echo: Echo, tmp_path: Path, option: str, content: str, expected: dict[str, Any]
) -> None:
    (tmp_path / "format").write_text(content)

    assert echo.task(option, str(tmp_path / "format"), "hello")["response_format"] == expected


def test_a_response_format_may_be_a_regular_expression_or_any_json(echo: Echo) -> None:
    assert echo.task("--response-regex", "a+", "hello")["response_format"] == {"type": "regex", "regex": "a+"}
    assert echo.task("--response-json", "hello")["response_format"] == {"type": "json"}


def test_tools_come_from_a_file(echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text('[{"name": "now"}]')

    task = echo.task("--tools", str(tmp_path / "tools.json"), "--tool-choice", "now", "hello")

    assert ([tool["name"] for tool in task["tools"]], task["tool_choice"]) == (["now"], "now")


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (("--messages", "no-such-file"), "cannot read no-such-file: No such file"),
        (("--parameter", "lora=x", "hello"), "triton.lora"),
        (("--parameter", "triton.lora", "hello"), "ENGINE.NAME=VALUE"),
        (("--response-json", "--response-regex", "a", "hello"), "one format"),
    ],
)
def test_what_cannot_be_made_into_a_task_is_a_usage_error(echo: Echo, arguments: tuple[str, ...], fault: str) -> None:
    result = echo.run(*arguments)

    assert result.code == 2
    assert fault in result.err


def test_input_that_is_not_utf8_is_a_usage_error(echo: Echo) -> None:
    result = echo.run("-", stdin=b"\xff\xfe")

    assert result.code == 2
    assert "not UTF-8" in result.err
