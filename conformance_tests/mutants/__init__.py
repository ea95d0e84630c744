"""Adapters that are broken in one way each, to prove that every check can fail, and on its own requirement only.

`python -m conformance_tests.mutants` runs the whole suite on each and says which requirement was found broken. The
mutants of a chapter are in the file of its name; nearly all of them override one small method of the reference adapter.

They are in the repository and the source distribution; an installed wheel has this file and `__main__.py` alone, which
says so.
"""
