"""The pieces of a stream to text, where each piece is a tensor."""

from __future__ import annotations

from adapter_kit.text import TextAssembler
from triton_adapter.codec.framing import TEXT_PREFIX, first_text, text_size
from triton_adapter.schema import RawTensor


class TensorTextAssembler(TextAssembler):
    """A `TextAssembler` whose pieces are the one element of a BYTES tensor each."""

    __slots__ = ()

    def take(self, tensor: RawTensor, outputs: object = None) -> str:
        """Take the next piece and return what may be shown now; raises as `first_text` does."""
        raw = tensor.data
        # What `first_text` and `feed` do with a token, without calling them.
        if self.plain and len(raw) >= TEXT_PREFIX and len(raw) == TEXT_PREFIX + text_size(raw)[0]:
            try:
                return str(raw[TEXT_PREFIX:], "utf-8")
            except UnicodeDecodeError:
                self.plain = False
        return self.feed(first_text(raw))
