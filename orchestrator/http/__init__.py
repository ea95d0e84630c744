"""The faces of the orchestrator on HTTP.

`app.py` joins them: `tasks.py` (the task API over server-sent events), `openai.py`, `kserve.py`, `ops.py` (pools,
metrics, health of the host) and `page.py` (the status page for people). `answers.py` streams, `problems.py` turns
errors into answers, `guard.py` lets requests in, `limits.py` bounds them. Needs the extra `server`.
"""
