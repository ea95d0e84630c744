"""What importing the clients loads."""

from __future__ import annotations

import subprocess
import sys

no_spec = "what an import loads is the project's own affair"


def test_importing_the_package_loads_neither_pillow_nor_numpy_nor_a_client() -> None:
    program = "import adapter_clients, adapter_kit.images, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    modules = set(loaded.stdout.split())
    assert not {"PIL", "numpy", "grpc", "adapter_clients.detection"} & modules


def test_every_name_that_is_offered_is_there() -> None:
    import adapter_clients

    assert all(hasattr(adapter_clients, name) for name in adapter_clients.__all__)
    assert set(adapter_clients.__all__) <= set(dir(adapter_clients))
