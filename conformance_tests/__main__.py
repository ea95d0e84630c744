"""`python -m conformance_tests`: run the suite on an adapter, and look at reports.

Exit codes: 0 conformant, 1 not, 2 incomplete, 3 the harness broke, 4 wrong usage.
"""

from __future__ import annotations

import sys

from conformance_tests.command_line import main

if __name__ == "__main__":
    sys.exit(main())
