"""Every way a fake model or the fake server goes wrong, as a client without retries sees it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.triton_adapter.testing.v2client import (
    EMPTY_FINAL,
    Status,
    connect,
    infer_request,
    is_final,
    text_request,
    texts_of,
)
from triton_adapter.testing import ErrorCode, FakeModel, FakeTriton
from triton_adapter.testing.script import Fail, Leave, Send
from triton_adapter.testing.tensors import texts

WORDS = ["one ", "two ", "three "]


@pytest.fixture
def model(fake: FakeTriton) -> FakeModel:
    return fake.model("llama").signature("text").respond_with_tokens(WORDS)


def request(**parameters: Any) -> Any:
    return text_request("llama", parameters={**EMPTY_FINAL, **parameters})


def stream(fake: FakeTriton, **kwargs: Any) -> tuple[list[Any], Status | None]:
    with connect(fake.grpc_url) as client:
        return client.stream(request(), **kwargs)


# ---- final flags


def test_without_a_fault_the_last_message_has_the_flag(fake: FakeTriton, model: FakeModel) -> None:
    messages, status = stream(fake)

    assert status is None
    assert texts_of(messages) == [b"one ", b"two ", b"three "]
    assert [is_final(message) for message in messages] == [False, False, True]


def test_the_flag_can_come_on_a_message_of_its_own(fake: FakeTriton, model: FakeModel) -> None:
    model.finish("separately")

    messages, _ = stream(fake)

    assert [is_final(message) for message in messages] == [False, False, False, True]
    assert not messages[-1].infer_response.outputs


def test_the_flag_can_be_missing_while_the_stream_ends_in_order(fake: FakeTriton, model: FakeModel) -> None:
    model.finish("omitted")

    messages, status = stream(fake)

    assert status is None
    assert [is_final(message) for message in messages] == [None, None, None]


def test_the_flag_can_never_come(fake: FakeTriton, model: FakeModel) -> None:
    model.finish("never")

    messages, status = stream(fake, timeout_s=0.3)

    assert len(messages) == 3
    assert status is not None
    assert status.code == "DEADLINE_EXCEEDED"


def test_a_late_flag_comes_after_the_data(fake: FakeTriton, model: FakeModel) -> None:
    model.finish("separately").hold(after=3)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        data = [next(call) for _ in WORDS]
        fake.wait_until(lambda: model.held == 1)
        model.release()
        rest = list(call)

    assert [is_final(message) for message in (*data, *rest)] == [False, False, False, True]


# ---- in-band errors


@pytest.mark.parametrize("final", [True, None])
def test_an_error_can_end_the_request_with_or_without_the_flag(
    fake: FakeTriton, model: FakeModel, final: bool | None
) -> None:
    model.fail("boom", after=1, final=final)

    messages, status = stream(fake)

    assert status is None
    assert texts_of(messages) == [b"one "]
    assert (messages[-1].error_message, is_final(messages[-1])) == ("boom", final)


def test_an_error_without_the_final_flag_is_followed_by_the_flag_alone(fake: FakeTriton, model: FakeModel) -> None:
    model.fail("boom", after=1, final=False)

    messages, _ = stream(fake)

    assert [(message.error_message, is_final(message)) for message in messages[1:]] == [("boom", False), ("", True)]


def test_an_error_can_be_followed_by_the_rest_of_the_tokens(fake: FakeTriton, model: FakeModel) -> None:
    model.fail("boom", after=1, final=False, then="messages")

    messages, _ = stream(fake)

    assert [message.error_message for message in messages] == ["", "boom", "", ""]
    assert texts_of(messages) == [b"one ", b"two ", b"three "]
    assert is_final(messages[-1]) is True


def test_an_error_can_be_followed_by_nothing_ever(fake: FakeTriton, model: FakeModel) -> None:
    model.fail("boom", after=1, final=False, then="nothing")

    messages, status = stream(fake, timeout_s=0.3)

    assert messages[-1].error_message == "boom"
    assert status is not None
    assert status.code == "DEADLINE_EXCEEDED"


def test_with_triton_grpc_error_a_failure_ends_the_call_with_its_code(fake: FakeTriton, model: FakeModel) -> None:
    model.fail("gone", code="NOT_FOUND", after=1)

    messages, status = stream(fake, metadata={"triton_grpc_error": "true"})

    assert texts_of(messages) == [b"one "]
    assert status == Status("NOT_FOUND", "gone")


def test_with_triton_grpc_error_a_refusal_still_comes_in_band(fake: FakeTriton) -> None:
    with connect(fake.grpc_url) as client:
        messages, status = client.stream(infer_request("nope"), metadata={"triton_grpc_error": "true"})

    assert status is None
    assert messages[0].error_message == "Request for unknown model: 'nope' is not found"


def test_a_unary_call_ends_with_the_code_of_the_error(fake: FakeTriton) -> None:
    fake.model("plain").signature("text", decoupled=False).fail("busy", code="UNAVAILABLE", after=0)

    with connect(fake.grpc_url) as client:
        assert client.infer(text_request("plain")) == Status("UNAVAILABLE", "busy")


def test_an_exception_in_the_models_function_reads_as_one_in_a_python_model(fake: FakeTriton) -> None:
    def explode(_: object) -> str:
        raise RuntimeError("python exploded")

    fake.model("llama").respond_with(explode)

    messages, _ = stream(fake)

    assert messages[0].error_message.startswith(
        "Failed to process the request(s) for model 'llama_0_0', message: RuntimeError: python exploded\n\nAt:\n"
    )


def test_models_of_both_kinds_share_a_stream(fake: FakeTriton, model: FakeModel) -> None:
    fake.model("plain").signature("text", decoupled=False)
    with connect(fake.grpc_url) as client:
        messages, status = client.stream(request(), text_request("plain", request_id="r2"))

    assert status is None
    assert sorted(message.infer_response.id for message in messages) == ["r1", "r1", "r1", "r2"]


def test_coupled_models_answer_in_order_even_if_a_later_one_is_ready_first(fake: FakeTriton) -> None:
    late = fake.model("late").signature("text", decoupled=False).hold(after=0)
    early = fake.model("early").signature("text", decoupled=False)
    with connect(fake.grpc_url) as client:
        call = client.open_stream(text_request("late", request_id="1"), text_request("early", request_id="2"))
        fake.wait_until(lambda: early.finished == 1)
        late.release()
        messages = list(call)

    assert [message.infer_response.id for message in messages] == ["1", "2"]


# ---- the call, the stream, the connection


def test_a_stream_can_end_with_a_status(fake: FakeTriton, model: FakeModel) -> None:
    model.abort("RESOURCE_EXHAUSTED", "too much", after=1)

    messages, status = stream(fake)

    assert texts_of(messages) == [b"one "]
    assert status == Status("RESOURCE_EXHAUSTED", "too much")


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_can_be_cut_in_the_middle_of_a_stream(fake: FakeTriton, model: FakeModel, reset: bool) -> None:
    model.cut(after=2, reset=reset)

    messages, status = stream(fake)

    assert texts_of(messages) == [b"one ", b"two "][: len(messages)]
    assert status is not None
    assert status.code == "UNAVAILABLE"
    fake.wait_until(lambda: model.running == 0)


def test_a_cut_before_the_first_token_shows_none(fake: FakeTriton, model: FakeModel) -> None:
    model.cut(after=0)

    messages, status = stream(fake)

    assert messages == []
    assert status is not None


def test_a_stream_can_be_reset_while_its_connection_stays(fake: FakeTriton, model: FakeModel) -> None:
    model.reset_stream(after=1)

    with connect(fake.grpc_url) as client:
        messages, status = client.stream(request())
        model.respond_with_text("fine")
        again, again_status = client.stream(request())

    assert len(messages) <= 1
    assert status is not None
    assert status.code == "INTERNAL"
    assert "RST_STREAM" in status.text
    assert (texts_of(again), again_status) == ([b"fine"], None)
    assert fake.proxy.accepted == 1


def test_a_graceful_goaway_lets_the_stream_finish_and_the_next_one_takes_a_new_connection(
    fake: FakeTriton, model: FakeModel
) -> None:
    model.go_away(after=1)

    with connect(fake.grpc_url) as client:
        first = client.stream(request())
        model.respond_with_text("fine")
        second = client.stream(request())

    assert (texts_of(first[0]), first[1]) == ([b"one ", b"two ", b"three "], None)
    assert (texts_of(second[0]), second[1]) == ([b"fine"], None)
    assert fake.proxy.accepted == 2


def test_a_goaway_can_take_the_stream_with_it(fake: FakeTriton, model: FakeModel) -> None:
    model.hold(after=1).go_away(after=1, code=ErrorCode.ENHANCE_YOUR_CALM, debug=b"too_many_pings", last_stream_id=0)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        next(call)
        model.release()
        with pytest.raises(grpc.RpcError) as raised:
            list(call)

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_garbage_in_a_bytes_tensor_is_carried_as_it_is(fake: FakeTriton, model: FakeModel) -> None:
    model.send_garbage_bytes(after=1)

    messages, _ = stream(fake)

    raw = messages[1].infer_response.raw_output_contents[0]
    assert int.from_bytes(raw[:4], "little") > len(raw) - 4


def test_a_garbage_message_cannot_be_parsed(fake: FakeTriton, model: FakeModel) -> None:
    model.send_garbage_message(after=1)

    messages, status = stream(fake)

    assert texts_of(messages) == [b"one "]
    assert status is not None
    assert status.code == "INTERNAL"


def test_an_oversized_message_breaks_the_limit_of_the_client(fake: FakeTriton, model: FakeModel) -> None:
    model.send_oversized(5 * 1024 * 1024, after=1)
    with grpc.insecure_channel(fake.proxy.address) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            iter([request().SerializeToString()]), timeout=5
        )
        next(call)
        with pytest.raises(grpc.RpcError) as raised:
            next(call)

    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Received message larger than max" in raised.value.details()


def test_a_refused_stream_never_reaches_the_server(fake: FakeTriton, model: FakeModel) -> None:
    fake.proxy.refuse_streams(times=100)

    messages, status = stream(fake)

    assert messages == []
    assert status is not None
    assert status.code == "UNAVAILABLE"
    assert fake.requests == ()


def test_slowly_dripping_bytes_arrive_whole(fake: FakeTriton, model: FakeModel) -> None:
    fake.proxy.drip(3)

    messages, status = stream(fake)

    assert (texts_of(messages), status) == ([b"one ", b"two ", b"three "], None)


# ---- the whole server


def test_a_dead_server_ends_streams_and_refuses_connections_until_it_is_revived(
    fake: FakeTriton, model: FakeModel
) -> None:
    model.hold(after=1)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        next(call)
        fake.die()
        with pytest.raises(grpc.RpcError) as raised:
            next(call)
    messages, refused = stream(fake)
    fake.revive()
    model.respond_with_text("fine")
    again = stream(fake)

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert messages == []
    assert refused is not None
    assert refused.code == "UNAVAILABLE"
    assert "Connection refused" in refused.text
    assert texts_of(again[0]) == [b"fine"]


def test_a_draining_server_refuses_new_requests_and_finishes_the_running_one(
    fake: FakeTriton, model: FakeModel
) -> None:
    model.hold(after=1)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        next(call)
        fake.drain()
        refused, status = client.stream(request())
        model.release()
        rest = list(call)

    assert status is None
    assert refused[0].error_message == "Request for unknown model: 'llama' has no available versions"
    assert texts_of(rest) == [b"two ", b"three "]


def test_a_call_of_any_kind_can_be_answered_with_a_status(fake: FakeTriton) -> None:
    fake.model("llama")
    fake.fail_next("ModelConfig", "UNAVAILABLE", "try later")

    with connect(fake.grpc_url) as client:
        first = client.call("ModelConfig", pb.ModelConfigRequest(name="llama"))
        second = client.call("ModelConfig", pb.ModelConfigRequest(name="llama"))

    assert first == Status("UNAVAILABLE", "try later")
    assert second.config.name == "llama"


# ---- the process behind a model


def test_after_its_stub_died_a_running_request_hangs_and_later_ones_fail_while_it_says_ready(
    fake: FakeTriton, model: FakeModel
) -> None:
    model.hold(after=1)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request(), timeout_s=0.5)
        next(call)
        model.kill_stub()
        later, _ = client.stream(request())
        ready = client.call("ModelReady", pb.ModelReadyRequest(name="llama")).ready
        with pytest.raises(grpc.RpcError) as raised:
            next(call)

    assert later[0].error_message == "Stub process 'llama_0_0' is not healthy."
    assert ready
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_request_inside_execute_fails_when_the_stub_dies(fake: FakeTriton, model: FakeModel) -> None:
    model.hold(after=1)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        next(call)
        model.kill_stub(inside_execute=True)
        (failed,) = list(call)

    assert failed.error_message == "Stub process 'llama_0_0' is not healthy."
    assert is_final(failed) is True


def test_only_unload_and_load_bring_a_dead_stub_back(fake: FakeTriton, model: FakeModel) -> None:
    load, unload = (
        pb.RepositoryModelLoadRequest(model_name="llama"),
        pb.RepositoryModelUnloadRequest(model_name="llama"),
    )
    model.kill_stub()

    with connect(fake.grpc_url) as client:
        client.call("RepositoryModelLoad", load)
        still_dead, _ = client.stream(request())
        client.call("RepositoryModelUnload", unload)
        client.call("RepositoryModelLoad", load)
        alive, _ = client.stream(request())

    assert still_dead[0].error_message == "Stub process 'llama_0_0' is not healthy."
    assert texts_of(alive) == [b"one ", b"two ", b"three "]


# ---- cancels and slots


def test_a_cancelled_stream_is_seen_by_its_model(fake: FakeTriton, model: FakeModel) -> None:
    model.hang(after=1)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        next(call)
        fake.wait_until(lambda: model.running == 1)
        call.cancel()
        fake.wait_until(lambda: model.cancelled_seen == 1)

    assert (model.running, model.finished) == (0, 0)


def test_a_cancelled_unary_call_is_seen_by_its_model(fake: FakeTriton) -> None:
    model = fake.model("plain").signature("text", decoupled=False).hold(after=0)

    with grpc.insecure_channel(fake.proxy.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(
            text_request("plain").SerializeToString(), timeout=5
        )
        fake.wait_until(lambda: model.held == 1)
        call.cancel()
        fake.wait_until(lambda: model.cancelled_seen == 1)

    assert model.running == 0


def test_a_model_that_ignores_cancels_keeps_its_slot_to_the_end(fake: FakeTriton, model: FakeModel) -> None:
    model.ignore_cancels().hold(after=1)

    with connect(fake.grpc_url) as client:
        call = client.open_stream(request())
        next(call)
        call.cancel()
        fake.wait_until(lambda: model.cancels == 1)
        running_after_cancel = model.running
        model.release()
        fake.wait_until(lambda: model.finished == 1)

    assert running_after_cancel == 1
    assert (model.running, model.cancelled_seen) == (0, 0)


def test_a_request_cancelled_in_the_queue_is_handed_to_the_model_all_the_same(
    fake: FakeTriton, model: FakeModel
) -> None:
    model.instances(1).hold(after=1)

    with connect(fake.grpc_url) as client:
        first = client.open_stream(request())
        next(first)
        second = client.open_stream(request())
        fake.wait_until(lambda: model.queued == 1)
        second.cancel()
        fake.wait_until(lambda: model.cancels == 1)
        model.release()
        list(first)
        fake.wait_until(lambda: model.started == 2)

    fake.wait_until(lambda: model.cancelled_seen == 1)
    assert model.running == 0


def test_a_full_queue_refuses(fake: FakeTriton) -> None:
    model = fake.model("queued").config(
        'input [{name: "text_input", data_type: TYPE_STRING, dims: [1]}] '
        'output [{name: "text_output", data_type: TYPE_STRING, dims: [1]}] '
        "dynamic_batching { default_queue_policy { max_queue_size: 1 } } "
        "model_transaction_policy { decoupled: true }"
    )
    model.respond_with_text("fine").instances(1).hold(after=0)
    with connect(fake.grpc_url) as client:
        calls = [client.open_stream(text_request("queued")) for _ in range(2)]
        fake.wait_until(lambda: model.running == 1 and model.queued == 1)
        refused, _ = client.stream(text_request("queued", request_id="f6"))
        model.release()
        finished = [texts_of(call) for call in calls]

    assert refused[0].error_message == "[request id: f6] Exceeds maximum queue size"
    assert finished == [[b"fine"], [b"fine"]]


def test_the_slot_of_every_stream_is_free_after_the_client_has_gone(fake: FakeTriton, model: FakeModel) -> None:
    model.hang(after=1)

    with connect(fake.grpc_url) as client:
        calls = [client.open_stream(request()) for _ in range(20)]
        for call in calls:
            next(call)
        busy = fake.running

    fake.wait_until(lambda: fake.running == 0)
    assert busy == 20
    assert model.cancelled_seen == 20


def test_steps_of_ones_own_are_taken_as_given(fake: FakeTriton) -> None:
    first = Send({"text_output": texts("text_output", "a")}, final=None)
    fake.model("llama").respond_with_steps(first, Fail("odd", final=None), first, Leave())

    messages, status = stream(fake)

    assert status is None
    assert [message.error_message for message in messages] == ["", "odd", ""]
    assert [is_final(message) for message in messages] == [None, None, None]


def test_an_unknown_model_is_unknown(fake: FakeTriton) -> None:
    with connect(fake.grpc_url) as client:
        assert client.infer(infer_request("nope")).code == "NOT_FOUND"
