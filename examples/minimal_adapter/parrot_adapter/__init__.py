"""Parrots as workers."""
