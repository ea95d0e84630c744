"""The command-line program: composes the host and the adapters by plugin name."""
