"""OpenAI's library in a page of another origin, in a real browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from real_clients import environment_of

from tests.orchestrator.http.browser import browser
from tests.orchestrator.real_clients.conftest import Origin
from tests.orchestrator.real_clients.shop import HERE, MODEL, Shop, needs_client
from tests.programs import needs

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.live, needs("chromium"), needs_client("openai-node")]


def bundle(into: Path) -> None:
    """Make one script of the page's own and the library."""
    modules = environment_of("openai-node") / "node_modules"
    (into / "page.mjs").write_bytes((HERE / "drivers" / "page.mjs").read_bytes())
    (into / "node_modules").symlink_to(modules)
    subprocess.run(
        [modules / ".bin" / "esbuild", "page.mjs", "--bundle", "--outfile=page.js", "--log-level=error"],
        cwd=into, check=True, timeout=60,
    )  # fmt: skip
    (into / "index.html").write_text("<!doctype html><title>shop</title><script src=page.js></script>")


@pytest.mark.spec("ORCH-3073-012")
async def test_a_page_of_an_allowed_origin_streams_leaves_and_reads_errors(
    shop: Shop, origin: Origin, tmp_path: Path
) -> None:
    bundle(origin.folder)
    cancelled = shop.tasks("cancelled")
    told = ", ".join(map(json.dumps, (f"{shop.url}/v1", shop.key, MODEL)))

    async with browser(tmp_path) as page:
        await page.call("Page.navigate", url=origin.url)
        await page.until("window.does !== undefined")
        stream, cancel, error = [await page.look(f"does.{what}({told})") for what in ("stream", "cancel", "error")]

    assert stream["text"] == " ".join(map(str, range(1, 31)))
    assert stream["pieces"] == 30
    assert cancel == {"left": True}
    assert error == ["NotFoundError", 404, "model_not_found", True]
    shop.wait_until_idle()
    assert shop.tasks("cancelled") == cancelled + 1
