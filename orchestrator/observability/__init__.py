"""What is told of the host: metrics, logs, traces, and the engines' own metrics."""
