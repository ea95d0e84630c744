"""The detection service of before: `python old_detector.py [PORT]`. It finds what is red, green or blue.

POST /detect with an encoded picture answers {"objects": [{"label", "score", "x", "y", "w", "h"}]}.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from adapter_api import InvalidRequest
from adapter_kit.images import read_picture

LARGEST = 20_000_000
LABELS = ("red", "green", "blue")


def detect(content: bytes) -> list[dict[str, Any]]:
    pixels = read_picture(content).astype(int)
    objects = []
    for channel, label in enumerate(LABELS):
        others = np.delete(pixels, channel, axis=2)
        rows, columns = np.nonzero((pixels[:, :, channel] > 150) & (others < 100).all(axis=2))
        if len(rows):
            x, y = int(columns.min()), int(rows.min())
            size = {"w": int(columns.max()) + 1 - x, "h": int(rows.max()) + 1 - y}
            objects.append({"label": label, "score": 0.8, "x": x, "y": y, **size})
    return objects


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        if not 0 < size <= LARGEST:
            self.close_connection = True
            return self._answer(413, {"error": "too large"})
        try:
            self._answer(200, {"objects": detect(self.rfile.read(size))})
        except InvalidRequest as exc:
            self._answer(400, {"error": exc.message})

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(port: int = 7008) -> ThreadingHTTPServer:
    """Return the service, listening on the loopback interface; call `serve_forever` on it."""
    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    with serve(int(sys.argv[1]) if len(sys.argv) > 1 else 7008) as server:
        print(f"the old detector listens at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
