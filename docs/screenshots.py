"""Take the README's screenshots: `python docs/screenshots.py MODEL`, of a real daemon that inspects the built-in line.

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
from pathlib import Path

import yaml
from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).parent
PARTS = 250  # on the chart
DESKTOP = {"viewport": {"width": 1360, "height": 1090}}
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


def start_daemon(folder: Path, model: Path) -> tuple[subprocess.Popen, Path]:
    site = {
        "cameras": {"belt": {"uri": "synthetic:?seed=7&count=120&defect_rate=0.08&rate=8&repeat=1"}},
        "pipelines": {"front": {"camera": "belt", "model": str(model), "sinks": ["lines"]}},
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
            if "port" in (told := json.loads(line)):
                return f"http://127.0.0.1:{told['port']}"
        time.sleep(0.1)
    sys.exit(log.read_text())


def take(browser: Browser, url: str) -> None:
    page = browser.new_page(**DESKTOP)
    page.goto(url)
    enough = page.locator("#stream li").nth(50)
    enough.wait_for(timeout=300_000)
    time.sleep(PARTS / 8)
    # The moment after a reject: the heat map is on the picture, the part before the next one in the chart.
    page.locator("#verdict[data-decision=reject]").wait_for(timeout=120_000)
    page.wait_for_timeout(60)
    page.screenshot(path=DOCS / "page_desktop.jpg", type="jpeg", quality=82)
    page.close()
    page = browser.new_page(**PHONE)
    page.goto(f"{url}/#evidence")
    page.locator("#verdicts button").first.click()
    page.locator("#detail .film img").last.wait_for()
    page.wait_for_timeout(800)
    page.screenshot(path=DOCS / "page_phone.jpg", type="jpeg", quality=82)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
