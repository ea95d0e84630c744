"""The contract of adapter_api on any NVIDIA Triton server."""
