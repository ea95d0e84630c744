"""How bytes travel. `base.py` is what the adapter needs of a transport; `grpc.py` is the one over grpcio."""
