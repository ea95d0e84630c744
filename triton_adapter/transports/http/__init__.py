"""Over HTTP/1.1, as v2 servers speak it: JSON, Triton's binary tensor extension, and `generate_stream`.

`transport.py` is what the adapter uses, and `stream.py` one streamed inference. They send what the others make, which
do no I/O: `routes.py` has the control calls, `tensors.py` an inference on tensors, `generate.py` one that streams, and
`failures.py` says what an answer means that is no success.
"""
