"""How bytes travel. `base.py` is what the adapter needs of a transport; `grpc.py` is the one over grpcio, `http/` the one
over HTTP/1.1, and `choosing.py` says which it is."""
