"""gRPC over HTTP/2 on a plain asyncio protocol, for the two kinds of calls that we make.

From the wire up: `frames`, `blocks`, `peer_settings` and `head` (bytes), `inbox` and `outbox` (messages and flow
control of one stream), `call` (one stream), `streams` (all of one socket), `connection` (the socket, and what comes of
it), `channel` (the socket to use now), `transport` (the adapter's view). A token costs little because a read of the
socket is walked once, and each stream with something new is woken once for all of it.

Sections named in comments are those of RFC 9113 (HTTP/2), unless they say RFC 7541 (HPACK) or gRPC, which is
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""
