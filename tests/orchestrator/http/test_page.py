"""The pages in a real browser: the status page shows what is, it follows, it works by keyboard and on a phone."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.orchestrator.http.browser import browser
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_guard import key
from tests.orchestrator.http.test_tasks import submit
from tests.orchestrator.observability.test_dashboard import is_answered, prometheus
from tests.orchestrator.pooling import task
from tests.programs import needs

pytestmark = pytest.mark.anyio

TEXT = "document.body.innerText"
# Texts whose contrast to what lies behind them is less than 4.5 : 1 (https://www.w3.org/TR/WCAG22/#contrast-minimum).
FAINT = """(() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = colour.slice(0, 3).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
    };
    const faint = [];
    for (const element of document.body.querySelectorAll("*:not(script)")) {
        if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
        const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
        const contrast = getComputedStyle(element).opacity === "1" ? (pair[0] + 0.05) / (pair[1] + 0.05) : 0;
        if (contrast < 4.5) faint.push(element.outerHTML);
    }
    return faint;
})()"""


@pytest.mark.spec("ORCH-3064-017")
@needs("chromium")
async def test_people_see_pools_tasks_and_errors_and_see_them_change(serve: Serve, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{{ tools }}<tool_call>{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    pool = {"chat_template": str(template)}
    async with serve({"delay_s": 0.01}, {"state": "unreachable"}, pool=pool) as host, browser(tmp_path) as page:
        await submit(host, model="mock", job_id="failing", timeout_s=0.001, max_tokens=100)
        running = host.orchestrator.submit(task(job_id="shown", max_tokens=1000))
        await anext(running)
        await page.call("Page.navigate", url=host.url)
        await page.until("document.getElementById('overall')?.textContent === 'ready'")
        await page.until("document.getElementById('tasks')?.textContent.includes('shown')")
        shown = await page.look(TEXT)
        await running.aclose()
        await host.orchestrator.drain("default")
        await page.until("document.getElementById('overall')?.textContent === 'not ready'")
        await page.until("document.getElementById('tasks')?.textContent.includes('No task')")
        drained = await page.look(TEXT)

    assert "no replica that takes work has ready" not in shown
    assert "no replica that takes work has ready: mock" in drained
    assert "it is unreachable" in shown
    assert f"chat template: {template}" in shown
    assert "tool calls: hermes: the chat template has " in shown
    assert "thoughts: none: " in shown
    assert "failing" in shown
    assert "deadline_exceeded" in shown


@pytest.mark.spec("ORCH-3064-017")
@needs("chromium")
async def test_they_load_nothing_from_elsewhere_and_break_no_rule_of_their_own(serve: Serve, tmp_path: Path) -> None:
    origins: set[str] = set()
    async with serve() as host, browser(tmp_path) as page:
        for path, there in (
            ("/", "document.getElementById('overall')?.textContent === 'ready'"),
            ("/docs", "document.body?.textContent.includes('POST /v2/tasks')"),
        ):
            await page.call("Page.navigate", url=host.url + path)
            await page.until(there)
            origins |= set(
                await page.look("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
            )

    assert origins <= {host.url}


@pytest.mark.spec("ORCH-3064-017")
@needs("chromium")
async def test_everything_is_reached_by_keyboard(serve: Serve, tmp_path: Path) -> None:
    async with serve() as host, browser(tmp_path) as page:
        await page.call("Page.navigate", url=host.url)
        await page.until("document.querySelector('#pools table') !== null")
        reached = []
        for _ in range(4):
            await page.press("Tab")
            reached.append(
                await page.look(
                    "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
                )
            )
        outline = await page.look("getComputedStyle(document.activeElement).outlineStyle")
        await page.until("document.activeElement.getAttribute('aria-label') !== null")

    assert reached[:3] == ["API", "metrics", "rollout"]
    assert reached[3].startswith("default: ready")
    assert outline == "solid"


@pytest.mark.spec("ORCH-3064-017")
@needs("chromium")
async def test_a_phone_shows_it_without_scrolling_sideways(serve: Serve, tmp_path: Path) -> None:
    async with serve({"state": "unreachable"}, {}) as host, browser(tmp_path) as page:
        await page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
        await page.call("Page.navigate", url=host.url)
        await page.until("document.querySelector('#pools table') !== null")
        width = await page.look("document.documentElement.scrollWidth")
        heads = await page.look(
            "[...document.querySelectorAll('#pools td')].map((td) => getComputedStyle(td, '::before').content)"
        )
        font = await page.look("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")

    assert width <= 360
    assert heads[:2] == ['"Replica"', '"State"']
    assert "none" not in heads
    assert font >= 14


@pytest.mark.spec("ORCH-3064-017")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@needs("chromium")
async def test_every_text_can_be_read_by_night_and_by_day(serve: Serve, tmp_path: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    async with serve({"state": "unreachable"}, {"state": "degraded"}, {}) as host, browser(tmp_path) as page:
        await submit(host, model="mock", timeout_s=0.001, max_tokens=100)
        await page.call("Emulation.setEmulatedMedia", features=features)
        faint = []
        for path, there in (("/", "#errors table"), ("/rollout", "h1"), ("/docs", "h3")):
            await page.call("Page.navigate", url=host.url + path)
            await page.until(f"document.querySelector('{there}') !== null")
            faint += await page.look(FAINT)

    assert faint == []


@pytest.mark.spec("ORCH-3064-017")
@needs("chromium")
async def test_who_may_not_see_it_is_told_so(serve: Serve, tmp_path: Path) -> None:
    async with serve(server={"api_keys": [key("alice")]}) as host, browser(tmp_path) as page:
        headers = {"Authorization": "Bearer key-of-alice"}
        await page.call("Network.enable")
        await page.call("Network.setExtraHTTPHeaders", headers=headers)
        await page.call("Page.navigate", url=host.url)
        await page.until("document.getElementById('overall')?.textContent.includes('admin')")


@pytest.mark.spec("ORCH-3064-001")
@needs("chromium")
async def test_a_browsers_own_event_source_reads_a_kept_task_and_resumes_it(serve: Serve, tmp_path: Path) -> None:
    async with serve({"reply": "one two three"}) as host, browser(tmp_path) as page:
        await submit(host, job_id="kept", on_disconnect="keep")
        await page.call("Page.navigate", url=f"{host.url}/livez")
        read = """new Promise((resolve) => {
            const source = new EventSource("/v2/tasks/kept/events"), seen = [];
            source.addEventListener("token", (event) => seen.push([event.lastEventId, JSON.parse(event.data).text]));
            source.addEventListener("end", () => { source.close(); resolve(seen); });
        })"""
        await page.until("location.pathname === '/livez'")
        seen = await page.look(read)

    assert seen == [["1", "one"], ["2", " two"], ["3", " three"]]


@pytest.mark.spec("ORCH-3064-017")
async def test_the_rollout_page_shows_everything_on_a_phone(serve: Serve, tmp_path: Path) -> None:
    cut = """[...document.querySelectorAll('figure, td, .bar, .bound, figcaption')]
        .filter((each) => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline'
            || each.getBoundingClientRect().right > innerWidth)
        .map((each) => each.outerHTML.slice(0, 200))"""
    shadow = {
        "id": "a-candidate-with-a-long-name",
        "adapter": "mock",
        "shadow_of": "default",
        "replicas": [{"id": "r0"}],
    }
    pools = [{"adapter": "mock", "replicas": [{"id": "r0", "options": {"delay_s": 0.001}}]}, shadow]
    async with serve(pools=pools) as host, browser(tmp_path) as page:
        for number in range(8):
            await submit(host, model="mock", max_tokens=1 + 8 * number)
        await submit(host, model="mock", timeout_s=0.001, max_tokens=100)
        await page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        await page.call("Page.navigate", url=f"{host.url}/rollout")
        await page.until("document.querySelector('.bars') !== null")
        width = await page.look("document.documentElement.scrollWidth")
        found = await page.look(cut)
        heads = await page.look(
            "[...document.querySelectorAll('td')].map((td) => getComputedStyle(td, '::before').content)"
        )

    assert width <= 390
    assert found == []
    assert heads[:2] == ['"Pool"', '"Weight"']


@pytest.mark.long
@pytest.mark.spec("ORCH-3064-046")
async def test_its_figures_agree_with_a_prometheus_over_the_same_time(serve: Serve, tmp_path: Path) -> None:
    """Short tasks, each over before the page has looked twice, with quiet before and after: the same time for both."""
    counted = {"query": "sum(worker_adapter_tokens_out_total)"}
    task = {"model": "mock", "prompt": "Hello", "max_tokens": 8}
    async with (
        serve({"delay_s": 0.002}) as host,
        browser(tmp_path / "profile") as page,
        prometheus(tmp_path, host.url.removeprefix("http://")) as asked,
    ):

        async def tokens_by_prometheus() -> float:
            result = (await asked.get("/api/v1/query", params=counted)).json()["data"]["result"]
            return float(result[0]["value"][1]) if result else 0.0

        await host.client.post("/v2/tasks", json=task)
        with anyio.fail_after(30):
            while not await is_answered(asked, counted["query"]):  # noqa: ASYNC110 - it looks five times a second
                await anyio.sleep(0.1)
        before = await tokens_by_prometheus()
        await page.call("Page.navigate", url=host.url)
        await page.until("typeof looks !== 'undefined' && looks.length >= 2")
        for _ in range(60):
            await host.client.post("/v2/tasks", json=task)
        await host.orchestrator.drain("default")
        for _ in range(3):
            await host.client.post("/v2/tasks", json=task)
        await page.until("looks.at(-1).tokens_out === looks.at(-2).tokens_out && looks.at(-1).tasks_refused === 3")
        shown_s = await page.look("looks.at(-1).at - looks[0].at")
        shown = float((await page.look("document.getElementById('rate-minute').textContent")).split()[0])
        refused = await page.look("document.getElementById('refused').textContent")
        liveliest = await page.look("Math.max(...rates)")
        with anyio.fail_after(10):
            while (after := await tokens_by_prometheus()) < before + 480:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.1)

    assert shown == pytest.approx((after - before) / shown_s, rel=0.05)
    assert liveliest > 50
    assert refused == "3"
