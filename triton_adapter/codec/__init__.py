"""Values to and from the protocol's bytes, and the bytes of a stream to text. Pure: no I/O, no protobuf, no numpy.

pack_texts([b"Hello"])                   one BYTES element
make_tensor(spec, [0.7], batched=True)   numbers and texts as a model declares them
TensorTextAssembler(stops=("\\n\\n",))           pieces in, text out: whole characters only, cut at a stop string
"""

from triton_adapter.codec.framing import TEXT_PREFIX, count_texts, first_text, pack_texts, text_elements
from triton_adapter.codec.json_values import input_elements, json_elements, raw_elements
from triton_adapter.codec.text import TensorTextAssembler
from triton_adapter.codec.values import make_tensor, read_count, read_numbers

__all__ = [
    "TEXT_PREFIX",
    "TensorTextAssembler",
    "count_texts",
    "first_text",
    "input_elements",
    "json_elements",
    "make_tensor",
    "pack_texts",
    "raw_elements",
    "read_count",
    "read_numbers",
    "text_elements",
]
