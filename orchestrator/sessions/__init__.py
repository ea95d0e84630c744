"""Who spoke before: where a session ran, and what was said in it."""
