"""Detectors as workers of a host: a task brings a picture, and its answer is what is in it, as JSON."""
