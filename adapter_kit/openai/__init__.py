"""The OpenAI API's chats and completions as tasks, and tasks' events as its answers. No I/O.

For whatever faces clients: the host's own face, and a worker behind somebody else's frontend. `requests` reads the
fields of a request, with `messages` and `formats` for what is nested in them; `answers` says what chunks and whole
choices hold. What cannot be honoured is refused by name, never dropped.
"""
