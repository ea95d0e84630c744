"""`python -m conformance_tests`: run the suite on an adapter, and look at reports.

Exit codes: 0 conformant, 1 not, 2 incomplete, 3 the harness broke, 4 wrong usage, 5 the result could not be written.
"""

from __future__ import annotations

import sys

from adapter_kit.standard_streams import open_streams, settle_streams
from conformance_tests.command_line import main
from conformance_tests.report import NOT_WRITTEN

if __name__ == "__main__":
    open_streams()
    code = main()
    sys.exit(NOT_WRITTEN if settle_streams() and not code else code)
