"""A real browser for tests: Debian's chromium, watched for errors and for requests that leave for another host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from system_packages import require

# Ends what hangs; measures nothing, for other tests share the cores.
MAX_S = 30
HALL = {"viewport": {"width": 1920, "height": 1080}}
PANEL = {"viewport": {"width": 1024, "height": 600}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
SIZES = {"hall": HALL, "panel": PANEL, "phone": PHONE}


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser; skips loudly where there is none."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * MAX_S)
    path = require("chromium")
    with sync_playwright() as playwright:
        # As root it has no sandbox, and containers often have a small /dev/shm. Whatever its build's default: no sound
        # before somebody has touched the page.
        args = ["--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=document-user-activation-required"]
        browser = playwright.chromium.launch(executable_path=path, args=args)
        yield browser
        browser.close()


@contextmanager
def opened_page(browser: Any, url: str, *, expected: tuple[str, ...] = (), **context: Any) -> Iterator[Any]:
    """Open a page, and fail where it logs an error or asks another host for anything.

    `expected` are parts of errors that the test provokes.
    """
    opened = browser.new_context(**context)
    page = opened.new_page()
    page.set_default_timeout(1000 * MAX_S)
    errors: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda reported: errors.append(reported.text) if reported.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url.removeprefix("blob:")).netloc))
    page.goto(url)
    yield page
    opened.close()
    assert hosts == {urlsplit(url).netloc}
    wrong = [error for error in errors if not any(part in error for part in expected)]
    assert not wrong, wrong


def shot(page: Any, folder: Path, name: str) -> None:
    """Save what is on the screen, where nothing sticks out at its side; `--basetemp` says where tests keep it."""
    folder.mkdir(exist_ok=True)
    page.wait_for_timeout(300)  # images that come in, and what fades
    page.screenshot(path=folder / f"{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], name
