"""A chat template of the adapter's own holds up no other task."""

from __future__ import annotations

from time import process_time, thread_time

import pytest

from adapter_api import End, Error, TaskRequest
from adapter_api.testing import collect
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.testing import FakeTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-033")]

CUBIC = (
    "{% for a in messages %}{% for b in messages %}{% for c in messages %}"
    "{% if c.role == 'none' %}.{% endif %}{% endfor %}{% endfor %}{% endfor %}{{ messages[0].content }}"
)


def chat(messages: int) -> TaskRequest:
    return TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "hi"}] * messages})


async def test_what_a_template_has_much_work_with_is_rendered_beside_the_loop() -> None:
    with FakeTriton() as fake:
        fake.model("m").respond_with_text("x")
        settings = TritonSettings.model_validate({"url": fake.grpc_url, "models": {"m": {"chat_template": CUBIC}}})
        async with TritonAdapter(settings) as adapter:
            little = await collect(adapter.submit(chat(1)))
            all_threads, this_one = process_time(), thread_time()
            much = await collect(adapter.submit(chat(200)))
            all_threads, this_one = process_time() - all_threads, thread_time() - this_one

    assert isinstance(little[-1], End)
    assert isinstance(much[-1], Error)
    assert "it takes more than 500,000 steps" in much[-1].message
    assert this_one < all_threads / 2, (this_one, all_threads)
