"""From what the user wants measured to the report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import anyio
import msgspec

from adapter_api import (
    AdapterError,
    Capability,
    Error,
    InferRequest,
    InvalidRequest,
    ModelProps,
    Unsupported,
    WorkerAdapter,
)
from adapter_clients.chat.models import only_text_model
from worker_adapter.bench.agreement import Agreement
from worker_adapter.bench.made_up import made_up_inputs
from worker_adapter.bench.ours import TextOrder, settle, tensor_client, text_client
from worker_adapter.bench.peers import Asked, NotRun, open_peers, peers_of
from worker_adapter.bench.plan import Plan
from worker_adapter.bench.report import Machine, Report, clients_of, now
from worker_adapter.bench.rounds import Contender, Course, run_rounds
from worker_adapter.bench.samples import Answer
from worker_adapter.interrupt import Interrupt
from worker_adapter.tensor_input import read_inputs

OURS = "worker-adapter"
_TASK_S = 60.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the user said. `plan.kind` counts only where `tensors` says so; else the model decides."""

    model: str | None
    model_version: str | None
    prompt: str
    inputs: Sequence[str]
    tensors: bool
    dim: int
    plan: Plan
    peers: bool = True


class TaskFailed(Exception):
    """Our very first task ended in an error, so that there is nothing to measure."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


class Measurement:
    """Measures one model through its adapter.

    Args:
        name: The adapter's, which says what peers there are.
        tell: Told what goes on.
    """

    def __init__(
        self, adapter: WorkerAdapter, name: str, url: str | None, wanted: Wanted, tell: Callable[[str], None]
    ) -> None:
        self._adapter = adapter
        self._name = name
        self._url = url
        self._wanted = wanted
        self._tell = tell
        self._report: Report | None = None
        self._failure: TaskFailed | None = None

    def run(self) -> Report | None:
        """Return what was measured until the end, or until a signal came; `None` if that was before the first task.

        Raises:
            TaskFailed: The first task failed, and nothing more was sent.
            AdapterError: The engine cannot be asked, has no such model, or the model takes no such thing.
        """
        with Interrupt() as interrupt:
            anyio.run(self._run, interrupt)
        if self._failure is not None:
            raise self._failure
        return self._report

    async def _run(self, interrupt: Interrupt) -> None:
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await interrupt.wait()
                group.cancel_scope.cancel()

            group.start_soon(stop)
            async with self._adapter, AsyncExitStack() as stack:
                try:
                    await self._measure(stack, interrupt)
                except TaskFailed as exc:  # raised again outside the group, which would wrap it
                    self._failure = exc
            group.cancel_scope.cancel()

    async def _measure(self, stack: AsyncExitStack, interrupt: Interrupt) -> None:
        model, plan = await self._planned()
        possible = 1 + (len(peers_of(self._name)) if self._wanted.peers else 0)
        self._tell(f"load: {plan.sentence(possible)}")
        asked = await self._asked(model, plan)
        ours = Contender(OURS, await self._client(asked))
        described = await self._adapter.props()
        settings = getattr(self._adapter, "settings", None)
        peers = await open_peers(stack, self._name, settings, asked) if self._wanted.peers else []
        contenders = [ours, *(peer for peer in peers if isinstance(peer, Contender))]
        for peer in peers:
            if isinstance(peer, NotRun):
                self._tell(f"{peer.name} is not run: {peer.reason}")
        course = Course(Agreement(OURS))
        machine = Machine.here()
        try:
            await run_rounds(contenders, plan, course, self._tell)
        finally:
            if interrupt.signal_name is not None:
                course.stopped = interrupt.signal_name
            course.cut()
            self._report = Report(
                kind=plan.kind,
                model=asked.model.name,
                url=self._url,
                engine=described.engine,
                engine_version=described.engine_version,
                transport=described.transport,
                date=now(),
                machine=machine,
                plan=plan.document(),
                sent=asked.text.sent if asked.text is not None else _shapes(asked.request),
                rounds=course.rounds,
                stopped=course.stopped,
                contents=course.agreement.verdict,
                mismatches=course.agreement.mismatches,
                clients=clients_of(plan, contenders, course),
                not_run=tuple(peer for peer in peers if isinstance(peer, NotRun)),
            )

    async def _planned(self) -> tuple[ModelProps, Plan]:
        """Return what is known of the model, and how much it is asked. Nothing is sent to it yet."""
        wanted = self._wanted
        name = wanted.model
        if name is None:
            if wanted.tensors:
                raise InvalidRequest("which model? Name it with --model; `worker-adapter props` lists them")
            name = await only_text_model(self._adapter, how="choose one with --model")
        model = await self._adapter.model_props(name)
        takes_text = bool(_can(model) & {Capability.TEXT, Capability.MESSAGES})
        plan = msgspec.structs.replace(wanted.plan, kind="text" if takes_text and not wanted.tensors else "tensors")
        plan.check()
        return model, plan

    async def _asked(self, model: ModelProps, plan: Plan) -> Asked:
        """Return what to ask all clients for, settled with the engine."""
        if plan.kind == "tensors":
            return Asked(model=model, request=self._request(model))
        order = TextOrder(
            model=model.name,
            model_version=self._wanted.model_version,
            prompt=self._wanted.prompt,
            as_messages=Capability.TEXT not in _can(model),
            max_tokens=plan.tokens,
            timeout_s=min(_TASK_S, plan.seconds),
            pause_s=plan.pause_ms / 1e3,
        )
        order, failure = await settle(self._adapter, order)
        if failure is not None:
            raise TaskFailed(failure)
        return Asked(model=model, text=order)

    def _request(self, model: ModelProps) -> InferRequest:
        wanted = self._wanted
        if Capability.TENSORS not in _can(model):
            raise Unsupported(f"model {model.name!r} takes neither text nor tensors, as far as its adapter can tell")
        inputs = (
            read_inputs(wanted.inputs, {spec.name: spec for spec in model.inputs})
            if wanted.inputs
            else made_up_inputs(model.name, model.inputs, wanted.dim)
        )
        return InferRequest(model=model.name, model_version=wanted.model_version, inputs=inputs)

    async def _client(self, asked: Asked) -> Callable[[], Awaitable[Answer]]:
        if asked.text is not None:
            return text_client(self._adapter, asked.text)
        assert asked.request is not None
        try:
            await self._adapter.infer(asked.request)
        except AdapterError as exc:
            raise TaskFailed(Error.from_exception(exc)) from exc
        return tensor_client(self._adapter, asked.request)


def _can(model: ModelProps) -> frozenset[Capability]:
    return model.capabilities | model.uncertain


def _shapes(request: InferRequest | None) -> dict[str, str]:
    inputs = request.inputs if request is not None else ()
    return {tensor.name: f"{tensor.datatype} {list(tensor.shape)}" for tensor in inputs}
