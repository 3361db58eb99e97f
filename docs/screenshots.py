"""Take the screenshots of the documentation.

    python docs/screenshots.py MODEL          # of a real daemon that inspects the built-in line
    python docs/screenshots.py report.html    # of a page that `edgead report` wrote
    python docs/screenshots.py heat_maps.jpg  # the first of the defects that `edgead demo` found

The model is that of `edgead demo`, with its kinds: `edgead name MODEL --examples out/data/test`.

Needs `pip install '.[daemon,dev]'` and Debian's chromium.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import httpx
import numpy as np
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

DOCS = Path(__file__).parent
PARTS = 130  # on the chart
RATE_HZ = 4
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
REPORT = {"viewport": {"width": 1060, "height": 1310}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True}


def main(model: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        process, log = start_daemon(Path(folder), model.resolve())
        try:
            url = wait_for_page(process, log)
            with sync_playwright() as playwright:
                path = shutil.which("chromium")
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                take(browser, url)
                browser.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def take_report(page_file: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(**REPORT)
        page.goto(page_file.resolve().as_uri())
        page.screenshot(path=DOCS / "report.jpg", type="jpeg", quality=82)
        browser.close()


def first_found(sheet: np.ndarray) -> np.ndarray:
    """What README and documentation show of the demo's sheet of heat maps: nine parts."""
    height, width = sheet.shape[:2]
    return cv2.resize(sheet, (1500, height * 1500 // width), interpolation=cv2.INTER_AREA)[:936]


def take_found(sheet: Path) -> None:
    cv2.imwrite(str(DOCS / "heat_maps.jpg"), first_found(cv2.imread(str(sheet))), [cv2.IMWRITE_JPEG_QUALITY, 90])


def start_daemon(folder: Path, model: Path) -> tuple[subprocess.Popen, Path]:
    site = {
        "cameras": {"conveyor": {"uri": f"synthetic:?seed=7&count=120&defect_rate=0.08&rate={RATE_HZ}&repeat=1"}},
        "pipelines": {"front": {"camera": "conveyor", "model": str(model), "sinks": ["lines"]}},
        "sinks": {"lines": {"kind": "uri", "uri": f"jsonl:{folder / 'verdicts.jsonl'}"}},
        "store": {"folder": str(folder / "evidence"), "free_mib": 1},
        "http": {"port": 0},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    command = [sys.executable, "-c", "from edgead.cli import main; main()", "daemon", "-c", str(folder / "site.yaml")]
    with open(folder / "log", "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log), folder / "log"


def wait_for_page(process: subprocess.Popen, log: Path) -> str:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if "port" in (reported := json.loads(line)):
                return f"http://127.0.0.1:{reported['port']}"
        time.sleep(0.1)
    sys.exit(log.read_text())


def take(browser: Browser, url: str) -> None:
    page = browser.new_page(**DESKTOP)
    page.goto(url)
    page.locator("#stream li").nth(50).wait_for(timeout=300_000)
    set_thresholds(url)
    page.wait_for_timeout(1000 * PARTS / RATE_HZ)
    save(page, "page_desktop.jpg", during_a_clear_reject)
    page.close()
    page = browser.new_page(**PHONE)
    page.goto(f"{url}/#evidence")
    page.locator("#verdicts button").first.wait_for()
    scores = [float(score) for score in page.locator("#verdicts .score-of").all_text_contents()]
    page.locator("#verdicts button").nth(scores.index(max(scores))).click()
    page.locator("#detail .film img").last.wait_for()
    page.wait_for_timeout(800)
    save(page, "page_phone.jpg", lambda page: True)


def set_thresholds(url: str) -> None:
    """Set thresholds between which an image of all three decisions comes, whatever the model's guarantee."""
    verdicts = httpx.get(f"{url}/api/verdicts", params={"limit": 50}).json()["verdicts"]
    scores = sorted(verdict["image_score"] for verdict in verdicts)
    change = {"review": scores[-7], "reject": scores[-4], "by": "Anna", "reason": "for the screenshot"}
    httpx.put(f"{url}/api/pipelines/front/thresholds", json=change).raise_for_status()


def during_a_clear_reject(page: Page) -> bool:
    score = float(page.locator("#score").text_content() or "0")
    shown = page.locator("#live-image").get_attribute("data-frame")
    newest = page.locator("#rejects button").first.get_attribute("data-id")
    return page.locator("#word").text_content() == "Reject" and shown == newest and score > 110


def save(page: Page, name: str, good: Callable[[Page], bool]) -> None:
    """Save a screenshot before and after which the page was as is wanted."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if good(page):
            image = page.screenshot(type="jpeg", quality=82)
            if good(page):
                (DOCS / name).write_bytes(image)
                return
        page.wait_for_timeout(20)
    sys.exit(f"{name}: the page never was as is wanted")


if __name__ == "__main__":
    given = Path(sys.argv[1])
    {".html": take_report, ".jpg": take_found}.get(given.suffix, main)(given)
