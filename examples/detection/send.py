"""Send pictures to the host and print what it says is in them: `python send.py PICTURE…`."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from urllib.request import Request, urlopen

HOST = "http://127.0.0.1:8080"


def ask(picture: Path, host: str = HOST, model: str = "colours") -> str:
    url = "data:application/octet-stream;base64," + base64.b64encode(picture.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(host + "/v1/chat/completions", json.dumps(body).encode(), headers), timeout=60) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
        return answer


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, ask(Path(name)))
