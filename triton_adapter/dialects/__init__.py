"""How families of models take a task and answer it. Pure: values in, values out.

choice = choose_dialect(schema)
encoded = choice.dialect.encode(task, schema)  # the model's tensors, or the contract's error
decoder = choice.dialect.decoder(task, schema)
for reply in replies:
    decoder.feed(reply, events)
held_back, end = decoder.finish()

`layout.py` is most families, `vllm.py` the one that takes JSON, `trtllm_raw.py` the one that takes token ids.
`conversation.py` stands before and behind a dialect where the settings have a chat template.
"""

from triton_adapter.dialects.base import Dialect, TaskDecoder
from triton_adapter.dialects.choosing import Choice, choose_dialect

__all__ = ["Choice", "Dialect", "TaskDecoder", "choose_dialect"]
