"""The words of the API, without I/O: bodies out of tasks, events out of chunks, errors out of answers."""
