"""How bytes travel. `base.py` is what the adapter needs of a transport, `ways.py` what each can do.

`h2/` is the one for gRPC over our own HTTP/2, `grpc.py` that over grpcio, `http/` the one over HTTP/1.1, and
`choosing.py` makes the one that settings ask for.
"""
