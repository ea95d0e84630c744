"""One text task, from its request to its last event."""
