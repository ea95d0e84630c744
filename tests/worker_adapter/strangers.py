"""Packages of others beside ours: distributions that exist for one test."""

from __future__ import annotations

import os
from pathlib import Path


def install(folder: Path, name: str, code: str) -> dict[str, str]:
    """Write a distribution whose plugin module has this code; returns the environment in which it is installed."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[worker_adapter]\n{name} = {name}_plugin\n")
    (folder / f"{name}_plugin.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def adapter_code(name: str, *, scheme: str = "", commands: str = "()") -> str:
    """Return the code of a plugin that offers the mock adapter under another name."""
    return (
        "from adapter_api import AdapterPlugin, PluginCommand, hookimpl\n"
        "def tell() -> None:\n"
        f"    print('told by {name}')\n"
        "@hookimpl\n"
        "def worker_adapter_register():\n"
        f"    return AdapterPlugin(name={name!r}, adapter='adapter_api.testing:MockAdapter',\n"
        "        settings='adapter_api.testing:MockSettings', api_version='1.0',\n"
        f"        url_schemes={(scheme,) if scheme else ()!r}, commands={commands})\n"
    )
