"""The checks, one file per chapter of `specs/`.

Two ways to run them with pytest: `pytest --pyargs conformance_tests.suite --adapter NAME`, or a test module of your own

    from conformance_tests.suite import *  # noqa: F403

    @pytest.fixture(scope="session")
    def conformance_harness():
        return MyHarness()
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from types import ModuleType

if (
    "pytest" in sys.modules
    and "conformance_tests.pytest_plugin" not in sys.modules
    and (os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD") or "--disable-plugin-autoload" in sys.argv)
):
    # Once here, rather than as a fixture that every single test misses.
    raise ImportError(
        "pytest loads no plugins by itself in this run (PYTEST_DISABLE_PLUGIN_AUTOLOAD), and the suite needs its own: "
        "add -p conformance_tests.pytest_plugin"
    )

_modules: list[ModuleType] = [
    importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
]

__all__: list[str] = []  # filled below, so that a new check needs no second entry

for _module in _modules:
    for _name, _member in vars(_module).items():
        if hasattr(_member, "__conformance_check__"):
            if _name in __all__:
                raise ImportError(f"two checks of the suite are called {_name}")
            __all__.append(_name)
            globals()[_name] = _member
