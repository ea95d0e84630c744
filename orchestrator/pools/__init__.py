"""Pools of replicas: their health, the line before them, and which one a task goes to."""
