"""ORCH-3061: tensors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from adapter_api import (
    AdapterError,
    Capability,
    Datatype,
    DeadlineExceeded,
    InferRequest,
    InferResponse,
    InvalidRequest,
    ModelNotFound,
    RequestedOutput,
    Tensor,
    Unsupported,
    WorkerAdapter,
    new_job_id,
)
from conformance_tests.checks import requirement
from conformance_tests.harness import KnownTensors
from conformance_tests.outcome import Blocked, Failed, Skipped, expect
from conformance_tests.subject import Subject
from conformance_tests.suite.cancel import SLACK_S
from conformance_tests.tensor_cases import DATATYPES, sample_tensor

AT_ONCE = 20


async def _infer(adapter: WorkerAdapter, request: InferRequest, what: str) -> InferResponse:
    try:
        return await adapter.infer(request)
    except AdapterError as exc:
        raise Failed(f"{what} raised {exc.code}: {exc}") from exc


async def _raised(inference: Awaitable[Any]) -> AdapterError | None:
    """Return the error that an inference raises, if it does."""
    try:
        await inference
    except AdapterError as exc:
        return exc
    return None


def _another(request: InferRequest, **changes: Any) -> InferRequest:
    return msgspec.structs.replace(request, **({"request_id": new_job_id()} | changes))


def _difference(outputs: tuple[Tensor, ...], expected: Tensor) -> str | None:
    """Say how the output of that name differs from what it should be."""
    found = {tensor.name: tensor for tensor in outputs}.get(expected.name)
    if found is None:
        return f"there is no output {expected.name!r} among {[tensor.name for tensor in outputs]}"
    if (found.datatype, tuple(found.shape)) != (expected.datatype, tuple(expected.shape)):
        return f"{found!r} came where {expected!r} was due"
    return None if bytes(found.data) == bytes(expected.data) else f"the bytes of {expected!r} differ"


def _known(subject: Subject, datatype: Datatype = "FP32", shape: tuple[int, ...] | None = None) -> KnownTensors:
    """Return a plain inference, on any datatype that the model takes."""
    for candidate in dict.fromkeys((datatype, *DATATYPES)):
        try:
            return subject.harness.known_tensors(candidate, shape)
        except Skipped as skipped:
            reason = skipped
    raise reason


@requirement("ORCH-3061-001")
async def test_every_datatype_comes_through(subject: Subject) -> None:
    """Send a tensor of each datatype but BYTES and compare what comes back."""
    tried = 0
    async with subject.open() as adapter:
        for datatype in DATATYPES:
            try:
                known = subject.harness.known_tensors(datatype)
            except Skipped as skipped:
                reason = skipped
                continue
            if datatype == "BYTES":
                continue
            tried += 1
            response = await _infer(adapter, known.request, f"an inference on {datatype}")
            for output in known.outputs:
                problem = _difference(response.outputs, output)
                expect(problem is None, f"{datatype}: {problem}")
    if not tried:
        raise reason


@requirement("ORCH-3061-002")
async def test_bytes_come_through(subject: Subject) -> None:
    """Send BYTES elements that are empty, hold zero bytes, or are no text."""
    known = subject.harness.known_tensors("BYTES")
    async with subject.open() as adapter:
        response = await _infer(adapter, known.request, "an inference on BYTES")

    for output in known.outputs:
        problem = _difference(response.outputs, output)
        expect(problem is None, f"BYTES: {problem}")


@requirement("ORCH-3061-003")
async def test_the_rows_of_a_batch_keep_their_order(subject: Subject) -> None:
    """Send a batch of eight different rows."""
    known = subject.harness.known_tensors("INT32", (8, 2))
    async with subject.open() as adapter:
        response = await _infer(adapter, known.request, "a batch of eight rows")

    for output in known.outputs:
        problem = _difference(response.outputs, output)
        expect(problem is None, f"a batch of eight rows: {problem}")


@requirement("ORCH-3061-004")
async def test_outputs_are_told_apart_by_name(subject: Subject) -> None:
    """Send several inputs, in either order, and look the outputs up by name."""
    known = subject.harness.named_tensors()
    async with subject.open() as adapter:
        for inputs in (known.request.inputs, known.request.inputs[::-1]):
            request = _another(known.request, inputs=inputs)
            response = await _infer(adapter, request, "an inference with several inputs")
            for output in known.outputs:
                problem = _difference(response.outputs, output)
                order = [tensor.name for tensor in inputs]
                expect(problem is None, f"with the inputs in the order {order}: {problem}")


@requirement("ORCH-3061-005")
async def test_only_the_requested_outputs_come_back(subject: Subject) -> None:
    """Ask for each of several outputs alone."""
    known = subject.harness.named_tensors()
    async with subject.open() as adapter:
        for wanted in (output.name for output in known.outputs):
            request = _another(known.request, outputs=(RequestedOutput(wanted),))
            response = await _infer(adapter, request, "an inference that asks for one output")
            names = [tensor.name for tensor in response.outputs]
            expect(names == [wanted], f"asked for {wanted!r}, and {names} came back")


@requirement("ORCH-3061-006")
async def test_an_unknown_input_is_refused_by_name(subject: Subject) -> None:
    """Send a tensor under a name that the model does not have."""
    request = subject.harness.stray_tensors()
    async with subject.open() as adapter:
        error = await _raised(adapter.infer(request))

    _expect_refused(error, request.inputs[0].name, "an input that the model does not have")


@requirement("ORCH-3061-007")
async def test_an_input_that_does_not_fit_is_refused_by_name(subject: Subject) -> None:
    """Send an input of a datatype or shape that the model does not take."""
    request = subject.harness.misfit_tensors()
    async with subject.open() as adapter:
        error = await _raised(adapter.infer(request))

    _expect_refused(error, request.inputs[0].name, "an input that does not fit")


def _expect_refused(error: AdapterError | None, name: str, what: str) -> None:
    told = f"{error.code}: {error}" if error else "no error"
    expect(isinstance(error, InvalidRequest), f"{what} ended in {told}")
    expect(name in str(error), f"the refusal of {what} does not name it: {error}")


@requirement("ORCH-3061-008")
async def test_inference_on_an_unknown_model_is_model_not_found(subject: Subject) -> None:
    """Send an inference to a model that no engine has."""
    known = _known(subject)
    async with subject.open() as adapter:
        error = await _raised(adapter.infer(_another(known.request, model="no-such-model-5309")))

    told = error.code if error else "no error"
    expect(isinstance(error, ModelNotFound), f"an inference on an unknown model ended in {told}")


@requirement("ORCH-3061-009")
async def test_a_response_carries_its_request_id(subject: Subject) -> None:
    """Send an inference with a `request_id` of its own."""
    request = _another(_known(subject).request, request_id="request-5309")
    async with subject.open() as adapter:
        response = await _infer(adapter, request, "an inference")

    expect(response.request_id == "request-5309", f"the response to request-5309 carries {response.request_id!r}")


@requirement("ORCH-3061-010")
async def test_inferences_at_once_do_not_mix(subject: Subject) -> None:
    """Send inferences that all differ, at once, and compare each response with its own request."""
    cases = [subject.harness.known_tensors("INT32", (rows, 2)) for rows in range(1, 5)]
    responses: dict[int, InferResponse] = {}
    async with subject.open() as adapter:
        await _infer(adapter, _another(cases[0].request), "an inference")

        async def infer(at: int) -> None:
            responses[at] = await adapter.infer(_another(cases[at % len(cases)].request))

        async with anyio.create_task_group() as group:
            for at in range(AT_ONCE):
                group.start_soon(infer, at)

    wrong = sum(
        any(_difference(response.outputs, output) for output in cases[at % len(cases)].outputs)
        for at, response in responses.items()
    )
    expect(wrong == 0, f"{wrong} of {AT_ONCE} inferences at once got outputs that are not their own")


@requirement("ORCH-3061-011")
async def test_a_dimension_of_zero_comes_through(subject: Subject) -> None:
    """Send a tensor of the shape [1, 0]."""
    known = subject.harness.known_tensors("FP32", (1, 0))
    async with subject.open() as adapter:
        response = await _infer(adapter, known.request, "an inference on a tensor without elements")

    for output in known.outputs:
        problem = _difference(response.outputs, output)
        expect(problem is None, f"a tensor without elements: {problem}")


@requirement("ORCH-3061-012")
async def test_an_inference_that_outlives_its_time_says_so(subject: Subject) -> None:
    """Pause the engine and send an inference with a short `timeout_s`."""
    known = _known(subject)
    async with subject.open() as adapter:
        await _infer(adapter, _another(known.request), "an inference")
        async with subject.engine_paused():
            error = None
            with anyio.move_on_after(10 * SLACK_S) as waited:
                error = await _raised(adapter.infer(_another(known.request, timeout_s=0.3)))

    expect(not waited.cancelled_caught, f"an inference with timeout_s=0.3 still ran after {10 * SLACK_S:g} s")
    told = error.code if error else "no error"
    expect(isinstance(error, DeadlineExceeded), f"an inference that outlived its timeout_s ended in {told}")


@requirement("ORCH-3061-013")
async def test_tensors_that_are_not_declared_are_refused(subject: Subject) -> None:
    """Send an inference to an adapter that does not declare tensors."""
    subject.only_without(Capability.TENSORS)
    tensor = sample_tensor("INPUT0", "FP32", (1, 2))
    async with subject.open() as adapter:
        error = await _raised(adapter.infer(InferRequest(model=subject.harness.model or "m", inputs=(tensor,))))

    told = error.code if error else "no error"
    expect(isinstance(error, Unsupported), f"tensors is not declared, and an inference ended in {told}")


@requirement("ORCH-3061-014")
async def test_a_tensor_stream_yields_every_response_in_order(subject: Subject) -> None:
    """Stream an inference whose responses are known."""
    known = subject.harness.known_stream()
    async with subject.open() as adapter:
        try:
            responses = [response async for response in adapter.infer_stream(known.request)]
        except AdapterError as exc:
            raise Failed(f"the tensor stream raised {exc.code}: {exc}") from exc

    expect(
        len(responses) == len(known.responses),
        f"{len(responses)} responses came where {len(known.responses)} were due",
    )
    for at, (response, outputs) in enumerate(zip(responses, known.responses, strict=True)):
        for output in outputs:
            problem = _difference(response.outputs, output)
            expect(problem is None, f"response {at}: {problem}")


@requirement("ORCH-3061-015")
async def test_a_tensor_stream_may_be_left_early(subject: Subject) -> None:
    """Close a tensor stream after its first response, then run it to its end."""
    known = subject.harness.known_stream()
    async with subject.open() as adapter:
        async with adapter.infer_stream(_another(known.request)) as stream:
            async for _ in stream:
                break
        try:
            again = [response async for response in adapter.infer_stream(_another(known.request))]
        except AdapterError as exc:
            raise Failed(f"after a tensor stream that was left early the next raised {exc.code}: {exc}") from exc

    expect(again, "after a tensor stream that was left early the next one yielded nothing")


@requirement("ORCH-3061-016")
async def test_a_sequence_keeps_its_order(subject: Subject) -> None:
    """Send the requests of a sequence without waiting for the responses."""
    known = subject.harness.known_sequence()
    if len(known) < 3:
        raise Blocked("the harness's sequence has fewer than three requests")
    responses: dict[int, InferResponse] = {}
    async with subject.open() as adapter:

        async def infer(at: int) -> None:
            responses[at] = await _infer(adapter, known[at].request, f"request {at} of a sequence")

        async with anyio.create_task_group() as group:
            for at in range(len(known)):
                group.start_soon(infer, at)
                # Lets the request begin, so that the order is that of the calls on trio as well.
                await anyio.lowlevel.checkpoint()

    for at, case in enumerate(known):
        for output in case.outputs:
            problem = _difference(responses[at].outputs, output)
            expect(problem is None, f"request {at} of a sequence of {len(known)}: {problem}")


@requirement("ORCH-3061-025")
async def test_an_inference_is_not_sent_again_once_the_engine_has_it(subject: Subject) -> None:
    """Break the connection while the engine works on an inference, and see what comes of it."""
    request = subject.harness.slow_tensors()
    outcome: list[str] = []
    async with subject.open() as adapter, anyio.create_task_group() as beside:

        async def infer() -> None:
            error = await _raised(adapter.infer(_another(request)))
            outcome.append(error.code if error else "answer")

        beside.start_soon(infer)
        try:
            await subject.eventually(lambda: _is_at_work(subject), "")
        except Failed:
            beside.cancel_scope.cancel()
            raise Blocked(f"the engine does not work on Harness.slow_tensors: {outcome or 'no answer yet'}") from None
        before = await subject.harness.inferences()
        await subject.harness.drop_streams()
    sent = await subject.harness.inferences() - before

    told = outcome[0] if outcome else "nothing"
    expect(
        # An engine may count an inference when it is done with it.
        told != "answer" and sent <= 1,
        f"the connection broke while the engine worked on an inference, which was sent again; it came to: {told}",
    )


async def _is_at_work(subject: Subject) -> bool:
    return not await subject.engine_is_idle()


@requirement("ORCH-3061-023")
async def test_an_inference_on_an_engine_out_of_reach_is_connect_failed(subject: Subject) -> None:
    """Run an inference, stop the engine, and send another by a new adapter, which has no connection to lose."""
    known = _known(subject)
    async with subject.open() as adapter:
        await _infer(adapter, _another(known.request), "an inference")
    async with subject.engine_stopped(), subject.open() as adapter:
        error = await _raised(adapter.infer(_another(known.request, timeout_s=30.0)))

    told = error.code if error else "no error"
    expect(told == "connect_failed", f"the engine could not be reached and an inference ended in {told}")
