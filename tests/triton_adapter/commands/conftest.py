"""What the tests of the program have, these have too."""

from __future__ import annotations

from tests.worker_adapter.conftest import closed_url

__all__ = ["closed_url"]
