"""Tool calls of every family end to end: a model in a real Triton works its calls out of what it is asked and writes
them in a family's grammar, random pieces of letters at a time, and OpenAI's client reads them from a host.

`asked.py` computes what is to be called, `model` runs it in Triton, `kitchen.py` runs both servers. How a family writes
is in `real_clients/tool_model/writing.py`.
"""
