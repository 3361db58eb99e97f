"""Minutes from own images to the first verdict, as a newcomer: by `edgead` alone on a terminal, and by the page alone.

    python -m benchmarks first_verdict GOOD OTHERS -o WORK

GOOD is a folder of good images, OTHERS one of images to judge. Everything is answered that is asked, with Enter where
Enter will do. WORK/terminal.txt is what the terminal shows, with the seconds since the start. Then `edgead studio` gets
the same images through its page: WORK/page-1.png and so on are what it shows. The browser is Debian's chromium.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from edgead.images.files import IMAGE_SUFFIXES

_ASKS = re.compile(rb"\]: ?$")
# What moves the cursor or colours, and bars of progress.
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_BAR = re.compile(r"^[^┏┡]*━")
_COLUMNS = 100
_EDGEAD = str(Path(sys.executable).with_name("edgead"))
_LEARNING_MS = 1_200_000


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks first_verdict", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("good", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="an empty folder to work in")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    # The images; the model's folder; others to judge; the camera of the line.
    answers = [str(options.good.absolute()), "", str(options.others.absolute()), ""]
    said = lines_of(by_terminal(options.output, answers))
    (options.output / "terminal.txt").write_text("".join(f"[{at_s:4.0f} s] {line}\n" for at_s, line in said))
    judged_s = next(at_s for at_s, line in said if re.search("│ (ok|review|reject) ", line))
    print(
        f"by the terminal: first verdict after {judged_s / 60:.1f} min, {said[-1][0] / 60:.1f} min in all", flush=True
    )
    sent_s, learnt_s, judged_s, decision = by_page(options.output, options.good, options.others)
    print(
        f"by the page: images sent after {sent_s:.0f} s, learnt after {learnt_s:.0f}, in service and the first of the "
        f"others judged ({decision}) after {judged_s:.0f}"
    )


def lines_of(said: list[tuple[float, bytes]]) -> list[tuple[float, str]]:
    """The lines that stay on the screen, each with the time when it began."""
    lines, begun = [], ""
    for at_s, piece in said:
        *whole, begun = (begun + piece.decode(errors="replace")).split("\n")
        lines += [(at_s, _CONTROLS.sub("", line)) for line in whole]
    return [(at_s, line.rstrip()) for at_s, line in lines if line.strip() and not _BAR.match(line)]


def by_terminal(folder: Path, answers: list[str]) -> list[tuple[float, bytes]]:
    """Run `edgead` with a person before it who answers what it asks: its words, each with its time in seconds."""
    here, there = pty.openpty()
    environment = os.environ | {"COLUMNS": str(_COLUMNS), "TERM": "xterm-256color"}
    begun_s, said, waiting = time.perf_counter(), [], list(answers)
    with subprocess.Popen([_EDGEAD], stdin=there, stdout=there, stderr=there, cwd=folder, env=environment) as process:
        os.close(there)
        line = b""
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:  # the other end is closed: it has ended
                break
            said.append((time.perf_counter() - begun_s, piece))
            line = (line + piece).rpartition(b"\n")[2]
            if _ASKS.search(line) and waiting:
                os.write(here, waiting.pop(0).encode() + b"\n")
                line = b""
        if process.wait():
            raise SystemExit(f"`edgead` ended with {process.returncode}: see the end of {folder}/terminal.txt")
    os.close(here)
    return said


def by_page(folder: Path, good: Path, others: Path) -> tuple[float, float, float, str]:
    """Choose a folder, learn, put in service, judge: seconds until each, and the decision."""
    begun_s = time.perf_counter()
    with _studio(folder / "studio") as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1024, "height": 600})
        page.goto(url)
        expect(page.locator("#commission-choose")).to_be_enabled(timeout=_LEARNING_MS)
        _shoot(page, folder, 1)
        page.locator("#commission-folder").set_input_files(good)
        page.get_by_label("Your name").fill("A newcomer")
        page.get_by_role("button", name="Begin", exact=True).click()
        expect(page.locator("#commission-learn")).to_be_enabled(timeout=_LEARNING_MS)
        expect(page.locator("#commission-sending")).to_be_hidden(timeout=_LEARNING_MS)
        sent_s = time.perf_counter() - begun_s
        _shoot(page, folder, 2)
        page.locator("#commission-learn").click()
        expect(page.locator("#commission-see")).to_be_visible(timeout=_LEARNING_MS)
        learnt_s = time.perf_counter() - begun_s
        page.locator("#commission-see").click()
        expect(page.locator("#commission-usual li").first).to_be_visible()
        _shoot(page, folder, 3)
        page.locator("#commission-go").click()
        page.get_by_label("Name of the model").fill("first")
        page.get_by_role("button", name="Test and change").click()
        expect(page.locator("dialog")).to_be_hidden(timeout=_LEARNING_MS)
        _shoot(page, folder, 4)
        part = min(path for path in others.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        page.get_by_role("link", name="Live", exact=True).click()
        page.locator("#judged-files").set_input_files(part)
        expect(page.locator("#verdict")).to_have_attribute("data-decision", re.compile("ok|review|reject"))
        judged_s = time.perf_counter() - begun_s
        _shoot(page, folder, 5)
        decision = page.locator("#word").inner_text()
        browser.close()
    return sent_s, learnt_s, judged_s, decision


@contextmanager
def _studio(folder: Path) -> Iterator[str]:
    command = [_EDGEAD, "studio", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.send_signal(signal.SIGINT)


def _shoot(page: Page, folder: Path, number: int) -> None:
    page.screenshot(path=folder / f"page-{number}.png")
