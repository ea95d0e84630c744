"""Generate `triton_adapter/wire/v2_pb2.py` and its types from `v2.proto`; `--check` says whether they are fresh.

The compiler is pinned (`grpcio-tools==1.81.*`): generated code refuses a protobuf runtime older than its compiler's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
# Compiled by its path in the project: the bare name "v2.proto" could meet another package's in one process.
SOURCE = "triton_adapter/wire/v2.proto"
GENERATED = ("triton_adapter/wire/v2_pb2.py", "triton_adapter/wire/v2_pb2.pyi")


def generate(into: Path) -> None:
    """Write the generated files into a directory; raises `SystemExit` when the compiler fails."""
    status = protoc.main(["protoc", f"-I{ROOT}", f"--python_out={into}", f"--pyi_out={into}", SOURCE])
    if status:
        raise SystemExit(f"protoc failed with status {status}")


def stale() -> list[str]:
    """Return the names of checked-in files that are not what `v2.proto` gives."""
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        return [
            name
            for name in GENERATED
            if not (ROOT / name).exists() or (ROOT / name).read_bytes() != (Path(fresh) / name).read_bytes()
        ]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        names = stale()
        for name in names:
            print(f"{name} is stale; run: python scripts/generate_wire.py", file=sys.stderr)
        return 1 if names else 0
    generate(ROOT)
    print(f"wrote {', '.join(GENERATED)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
