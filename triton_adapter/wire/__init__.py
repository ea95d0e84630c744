"""Triton's v2 messages as bytes: `v2.proto` and what protoc made of it, the calls, and the two hot conversions.

`rpcs.py` names every call with its messages, `request.py` turns an inference into bytes, `reply.py` turns bytes into
`Reply`s. No I/O here: a transport carries the bytes.
"""
