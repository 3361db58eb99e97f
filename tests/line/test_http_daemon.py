"""The page of a real daemon, a process of its own that inspects the built-in line, in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from browser import opened_page

pytest.importorskip("edgead.line.daemon.run")
expect = pytest.importorskip("playwright.sync_api", reason="drives the browser").expect
TOKEN = "of-nobody-but-this-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def running_daemon(folder: Path, model: Path) -> Iterator[str]:
    """Start `edgead daemon` on a free port; gives the address of its page."""
    site = {
        "cameras": {"conveyor": {"uri": "synthetic:?seed=3&count=30&defect_rate=0.3&rate=10&repeat=1"}},
        "pipelines": {"front": {"camera": "conveyor", "model": str(model), "sinks": ["lines"]}},
        "sinks": {"lines": {"kind": "uri", "uri": f"jsonl:{folder / 'verdicts.jsonl'}"}},
        "store": {"folder": str(folder / "evidence"), "free_mib": 1},
        "http": {"port": 0, "token": "${PAGE_TOKEN}"},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    command = [sys.executable, "-c", "from edgead.cli import main; main()", "daemon", "-c", str(folder / "site.yaml")]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PAGE_TOKEN": TOKEN})
    try:
        yield f"http://127.0.0.1:{port_of(process, folder / 'log')}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert TOKEN not in (folder / "log").read_text()


def port_of(process: subprocess.Popen, log: Path) -> int:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if "port" in (reported := json.loads(line)):
                return reported["port"]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def url(trained_model, tmp_path_factory):
    with running_daemon(tmp_path_factory.mktemp("daemon"), trained_model) as url:
        until_judged(url)
        yield url


def until_judged(url: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        answer = httpx.get(f"{url}/api/verdicts?decision=reject", headers=BEARER, timeout=30)
        if answer.json()["verdicts"]:
            return
        time.sleep(0.1)
    raise AssertionError(httpx.get(f"{url}/readyz", timeout=30).text)


def test_the_line_is_seen_and_steered_from_the_page(browser, url):
    with opened_page(browser, url, expected=("status of 401", "status of 409")) as page:
        page.get_by_label("Token").fill("of-somebody-else-here")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#sign-in .form-error")).to_have_text("the token is wrong")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()

        expect(page.locator("#word")).to_have_text(re.compile("OK|Review|Reject"))
        expect(page.locator("#live-image")).to_have_attribute("data-frame", re.compile("."))
        seen = [page.locator("#live-image").get_attribute("data-frame")]
        for _ in range(2):  # images go on
            expect(page.locator("#live-image")).not_to_have_attribute("data-frame", seen[-1])
            seen.append(page.locator("#live-image").get_attribute("data-frame"))
        assert seen == sorted(set(seen))
        page.get_by_text("Details").click()
        expect(page.locator("#latency")).to_contain_text("total")

        page.get_by_role("button", name="Change limits").click()
        page.get_by_label("Reject above").fill("1000")
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Continue").click()
        change = page.locator("dialog").last.get_by_role("button", name="Change limits")
        change.click()
        page.get_by_label("Why").fill("to see it")  # asked for with the doubt
        change.click()
        expect(page.locator("#reject-threshold")).to_have_text(re.compile("^1000(, for this part .*)?$"))
        page.get_by_role("link", name="Changes").click()
        expect(page.locator("#audit tr").first).to_contain_text("Anna (127.0.0.1)")
        expect(page.locator("#audit tr").first).to_contain_text('"reject":1000')

        page.get_by_role("link", name="Evidence").click()
        page.locator("#verdicts button").last.click()
        expect(page.locator("#detail .film button", has_text="Heat map")).to_be_visible()
        expect(page.locator("#detail .film button", has_text="before")).to_have_count(2)
        large = page.locator("#detail .frame img")
        expect(large).to_have_js_property("complete", True)
        assert large.evaluate("image => image.naturalWidth") > 100
        page.get_by_role("button", name="This part was good").click()
        page.get_by_role("button", name="Mark as false reject").click()
        expect(page.locator("#detail .marked-note")).to_contain_text("False reject, says Anna")

        page.get_by_role("link", name="System").click()
        page.get_by_role("button", name="Self-test").click()
        expect(page.locator("#toast")).to_contain_text("golden images score as on record")
        expect(page.locator("#system")).to_contain_text("streaming")


def test_what_programs_read_is_what_the_page_shows(url):
    with httpx.Client(base_url=url, headers=BEARER, timeout=30) as client:
        assert client.get("/readyz").json() == {"ready": True, "waiting_for": [], "failing_sinks": {}}
        text = client.get("/metrics").text
        with client.stream("GET", "/api/events") as answer:
            data = next(line for line in answer.iter_lines() if line.startswith("data:"))
        verdict = json.loads(data.removeprefix("data:"))
        assert client.get(f"/api/verdicts/{verdict['id']}").json()["image_score"] == verdict["image_score"]
    for name in (
        'edgead_camera_fps{camera="conveyor"}',
        'edgead_frames_dropped_total{pipeline="front",reason="stale"}',
        'edgead_reconnects_total{camera="conveyor"}',
        'edgead_latency_seconds{pipeline="front",quantile="0.99",stage="infer"}',
        'edgead_verdicts_total{decision="ok",pipeline="front"}',
        'edgead_sink_written_total{sink="lines"}',
    ):
        assert name in text
