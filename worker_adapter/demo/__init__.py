"""The show: an engine is started, the orchestrator runs tasks on it, one is cancelled, everything is shut down.

`show.py` is the sequence, `playbill.py` the tasks, `board.py` what is known of each while it runs, `engine.py` the
engine. A `view.py` looks on: `live_view.py` in a terminal, `line_view.py` in a pipe, `json_view.py` for programs.
"""
