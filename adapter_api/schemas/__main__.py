"""Writes the JSON Schemas of `TaskRequest` and `TokenEvent` beside this file, or checks that they are fresh.

Run as `python -m adapter_api.schemas [--check]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from adapter_api.events import event_schema
from adapter_api.task import TaskRequest

FOLDER = Path(__file__).parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return each schema under the name of its file."""
    return {
        "task_request.json": {"$schema": DRAFT, **TaskRequest.model_json_schema()},
        "token_event.json": {"$schema": DRAFT, "title": "TokenEvent", **event_schema()},
    }


def stale() -> list[str]:
    """Return the names of the committed files that are not what the code says."""
    return [name for name, schema in schemas().items() if not _is_fresh(FOLDER / name, schema)]


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _is_fresh(path: Path, schema: dict[str, Any]) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == _text(schema)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        names = stale()
        if names:
            sys.stderr.write(f"stale: {', '.join(names)}; run `make schemas` and commit the result\n")
        return 1 if names else 0
    for name, schema in schemas().items():
        (FOLDER / name).write_text(_text(schema), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
