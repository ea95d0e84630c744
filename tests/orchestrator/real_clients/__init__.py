"""Programs that nobody here wrote, with a real host in front of a real Triton: only their URL and key are ours.

`scripts/real_clients.py` has their versions and makes their environments. `drivers/` has what each of them is told, in
its own words and with its own defaults; `tool_model/` is the model that they talk to, in the repository `models/`, and
`templates/` are the chat templates that its pools have.
"""
