"""What a task may say, and what a wrong one is told."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from adapter_api import Capability, ImagePart, InvalidRequest, Message, TaskRequest, TextPart

PNG = base64.b64encode(b"\x89PNG fake").decode()


def task(**fields: Any) -> TaskRequest:
    return TaskRequest.parse({"model": "m", "prompt": "hello", **fields})


def test_a_job_id_is_made_when_absent_and_differs_each_time() -> None:
    assert task().job_id != task().job_id
    assert len(task().job_id) == 32


@pytest.mark.spec("ORCH-3058-021", "ORCH-3058-024")
@pytest.mark.parametrize(
    "fields, said",
    [
        ({"prompt": None}, "give 'prompt' or 'messages'"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "a\ud800"}, "prompt: holds half a character"),
        ({"stop": ["\udc00"]}, "stop.0: holds half a character"),
        ({"prompt": None, "messages": []}, "'messages' is empty"),
        ({"messages": [{"role": "user", "content": "x"}]}, "not both"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"stop": [""]}, "stop.0: must not be empty"),
        ({"n": 2}, "n:"),
        (
            {"prompt": None, "messages": [{"role": "user", "content": 5}]},
            "messages.0.content: Input should be a valid string or a list",
        ),
        ({"timeout_s": 0}, "timeout_s"),
        ({"priority": "urgent"}, "priority"),
        ({"temprature": 1}, "temprature: unknown field"),
        ({"model": ""}, "model"),
        ({"job_id": "a b"}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"parameters": {"lora_name": "x"}}, "'triton.lora_name'"),
        ({"parameters": {"triton.x": None}}, "parameters"),
        ({"traceparent": "nonsense"}, "traceparent"),
        ({"response_format": {"type": "regex"}}, "response_format"),
        ({"response_format": {"type": "json", "regex": "a"}}, "response_format"),
    ],
)
def test_a_wrong_task_is_refused_by_the_name_of_the_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid task") as caught:
        task(**fields)

    assert said in caught.value.message
    assert caught.value.code == "invalid_request"
    assert not caught.value.retryable


@pytest.mark.spec("ORCH-3058-022")
def test_an_error_never_repeats_what_was_given() -> None:
    with pytest.raises(InvalidRequest) as caught:
        TaskRequest.parse({"model": "m", "prompt": 17, "messages": "my secret plan", "stop": [["my secret plan"]]})

    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__)


@pytest.mark.spec("ORCH-3058-023")
def test_no_repr_shows_the_prompt() -> None:
    quiet = [
        task(prompt="my secret", stop=["my secret"], parameters={"triton.x": "my secret"}),
        TaskRequest(model="m", messages=(Message(role="user", content="my secret"),)),
    ]

    assert all("secret" not in repr(one) and "secret" not in str(one) for one in quiet)


def test_a_task_is_frozen() -> None:
    one = task(parameters={"triton.x": 1})

    with pytest.raises(ValueError, match="frozen"):
        one.model = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        one.parameters["triton.y"] = 2  # type: ignore[index]


def test_one_stop_string_may_stand_without_its_list() -> None:
    assert task(stop="END").stop == ("END",)
    assert task(stop=None).stop == ()


def test_parameters_are_handed_out_by_namespace() -> None:
    one = task(parameters={"triton.lora_name": "x", "other.lora_name": "y", "triton.a.b": True})

    assert one.parameters_for("triton") == {"lora_name": "x", "a.b": True}


@pytest.mark.parametrize(
    "data", [PNG, f"data:image/png;base64,{PNG}", base64.b64decode(PNG)], ids=["base64", "data URL", "bytes"]
)
def test_an_image_is_taken_in_every_form(data: str | bytes) -> None:
    image = ImagePart.model_validate({"type": "image", "data": data})

    assert image.content == b"\x89PNG fake"


def test_a_data_url_tells_the_media_type() -> None:
    assert ImagePart.model_validate({"data": f"data:image/png;base64,{PNG}"}).media_type == "image/png"


@pytest.mark.spec("ORCH-3070-012")
def test_an_image_may_be_told_by_the_url_from_which_the_model_fetches_it() -> None:
    image = {"type": "image", "url": "https://images.example/cat.png?size=2"}
    one = task(prompt=None, messages=[{"role": "user", "content": [image]}])

    assert one.needs == {Capability.MESSAGES, Capability.IMAGE_URLS}
    assert "images.example" not in repr(one)
    assert TaskRequest.parse_json(one.model_dump_json()) == one


@pytest.mark.parametrize(
    "fields",
    [{}, {"data": PNG, "url": "https://x/y.png"}, {"url": "file:///etc/passwd"}, {"url": "https://x/a b"},
     {"url": "https://x/" + "y" * 8192}],
    ids=["neither", "both", "a file", "a blank", "too long"],
)  # fmt: skip
def test_an_image_is_given_once_and_by_a_url_that_can_be_fetched(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ImagePart.model_validate(fields)


@pytest.mark.parametrize("data, said", [("https://x/y.png", "as `url`"), ("%%%", "not valid base64"), ("", "empty")])
def test_a_wrong_image_is_refused(data: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": [{"type": "image", "data": data}]}]})


def test_messages_tell_their_text_and_images_apart() -> None:
    message = Message(role="user", content=(TextPart(text="a"), ImagePart(data=PNG), TextPart(text="b")))

    assert message.text == "ab"
    assert [image.content for image in message.images] == [b"\x89PNG fake"]


def test_a_task_survives_its_json_form() -> None:
    one = task(seed=7, stop=["a"], parameters={"triton.x": 1}, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")

    assert TaskRequest.parse_json(one.model_dump_json()) == one


def test_broken_json_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest, match="invalid task"):
        TaskRequest.parse_json("{")


def test_json_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="seed"):
        TaskRequest.parse_json(json.dumps({"model": "m", "prompt": "x", "seed": 2**63}))


def test_a_task_tells_what_a_model_needs_to_take_it() -> None:
    assert task().needs == {Capability.TEXT}
    assert task(stop="x", seed=0, logprobs=0).needs == {
        Capability.TEXT, Capability.STOP, Capability.SEED, Capability.LOGPROBS
    }  # fmt: skip
    image = {"role": "user", "content": [{"type": "image", "data": PNG}]}
    assert task(prompt=None, messages=[image]).needs == {Capability.MESSAGES, Capability.IMAGES}


def test_many_faults_are_told_by_the_first_ones() -> None:
    with pytest.raises(InvalidRequest) as refused:
        TaskRequest.parse({"model": "m", "prompt": "p", **{f"{'k' * 1000}{number}": 1 for number in range(1000)}})

    assert refused.value.message.endswith("; and 990 more")
    assert len(refused.value.message) < 2000


def test_a_field_of_several_types_is_told_by_its_name_alone() -> None:
    with pytest.raises(InvalidRequest) as refused:
        TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": 5}]})

    assert "messages.0.content: " in refused.value.message
    assert "[" not in refused.value.message


def test_images_go_beside_a_prompt_or_inside_of_messages() -> None:
    image = {"type": "image", "data": b"x"}

    beside = TaskRequest.parse({"model": "m", "prompt": "<image>", "prompt_images": [image]})

    assert [each.content for each in beside.images] == [b"x"]
    assert Capability.IMAGES in beside.needs
    with pytest.raises(InvalidRequest, match="'prompt_images' go with 'prompt'"):
        TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "a"}], "prompt_images": [image]})


@pytest.mark.parametrize("values, said", [
    ({str(n): 0 for n in range(65)}, "at most 64 values"),
    ({"a": "x" * 65536}, "65536 bytes"),
    ({"a": float("nan")}, "chat_template_kwargs"),
    ({"a": object()}, "chat_template_kwargs"),
])  # fmt: skip
def test_values_for_a_template_are_few_and_json(values: dict[str, object], said: str) -> None:
    task = {"model": "m", "messages": [{"role": "user", "content": "a"}]}

    with pytest.raises(InvalidRequest, match=said):
        TaskRequest.parse(task | {"chat_template_kwargs": values})


def test_values_for_a_template_belong_to_messages_and_cannot_be_changed() -> None:
    task = TaskRequest.parse({
        "model": "m", "messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"enable_thinking": False}
    })  # fmt: skip

    assert Capability.CHAT_TEMPLATE_KWARGS in task.needs
    assert TaskRequest.parse_json(task.model_dump_json()) == task
    with pytest.raises(TypeError):
        task.chat_template_kwargs["more"] = 1  # type: ignore[index]
    with pytest.raises(InvalidRequest, match="are for the template of 'messages'"):
        TaskRequest.parse({"model": "m", "prompt": "a", "chat_template_kwargs": {"a": 1}})


def test_content_may_be_null_beside_tool_calls_only() -> None:
    call = {"id": "1", "name": "f", "arguments": "{}"}

    message = Message.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})

    assert (message.content, message.text, message.images) == (None, "", ())
    with pytest.raises(InvalidRequest, match="null"):
        TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": None}]})
