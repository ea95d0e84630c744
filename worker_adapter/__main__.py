"""`python -m worker_adapter` is `worker-adapter`."""

from __future__ import annotations

import sys

from worker_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main())
