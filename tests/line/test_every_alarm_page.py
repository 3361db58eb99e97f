"""Every kind of alarm of a real daemon, as a shift has them: seen on the page, acknowledged, ended from the page."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from browser import SIZES, opened_page, shot
from daemons import RunningDaemon, conveyor, make_site, started
from fakes import edit_manifest
from patience import wait_for

from edgead.images.files import write_image
from edgead.serialization.notice import KINDS
from edgead.synthetic.line import render

expect = pytest.importorskip("playwright.sync_api", reason="drives the browser").expect


def wrong_score(content: dict[str, Any]) -> None:
    """As if the golden images had scored differently where the model was made."""
    content["graphs"]["fp32"]["golden"][0]["image_score"] *= 1.01


def bad_day(model: Path, folder: Path) -> dict[str, Any]:
    """A site of which all is wrong that an alarm knows, but for what a threshold on the page makes wrong."""
    shutil.copytree(model, folder / "broken")
    write_image(folder / "halves" / "1.png", render(0)[0][::2])
    edit_manifest(folder / "broken", wrong_score)
    cameras = {
        "conveyor": conveyor(5, count=40),
        "side": conveyor(2, seed=2) | {"health": {"dark_below": 255}},
        "ftp": {"uri": f"watch:{folder / 'halves'}"},
        "top": {"uri": str(folder / "unplugged.mp4")},
    }
    alarms = {"rejects_in_a_row": 3, "yield_below": 90, "of": 20}
    pipelines = {
        "caps": {
            **{"camera": "conveyor", "model": str(model), "alarms": alarms, "budget_ms": 0.01},
            "drift": {"most_flagged": 0.1, "average_run_length": 100, "images": False},
        },
        "labels": {
            **{"camera": "conveyor", "model": str(model), "trigger": {"kind": "software"}},
            "alarms": {"no_part_for_s": 3},
        },
        "lids": {"camera": "ftp", "model": str(model)},
        "seals": {"camera": "conveyor", "model": str(folder / "broken")},
    }
    sinks = {"plc": {"kind": "webhook", "url": "http://127.0.0.1:9/", "retry_most_s": 1}}
    store = {"folder": "evidence", "free_mib": 10**9}
    notices = {"sinks": ["plc"], "settle_s": 1}
    return make_site(model, cameras=cameras, pipelines=pipelines, sinks=sinks, store=store, notices=notices)


def standing(daemon: RunningDaemon) -> set[str]:
    return {one["kind"] for one in daemon.api.get("/api/notices").raise_for_status().json()["standing"]}


def set_limits(page: Any, value: str) -> None:
    """As an engineer does it on Live."""
    page.get_by_role("link", name="Live", exact=True).click()
    if page.locator("#change-thresholds").is_hidden():
        page.get_by_text("Details").click()
    page.locator("#change-thresholds").click()
    page.get_by_label("Another limit, for review").uncheck()
    page.get_by_label("Reject above").fill(value)
    say_name(page)
    page.get_by_role("button", name="Continue").click()
    change = page.locator("dialog").last.get_by_role("button", name="Change limits")
    change.click()
    # Not `wait_for_function`: if it has to look twice, the page's policy forbids what it does.
    refused = page.locator("dialog .form-error:visible")
    wait_for(lambda: refused.count() or not page.locator("dialog").count(), "the limits are changed, or doubted")
    why = page.get_by_label("Why, where it lets pass what is stopped now")
    if why.count():  # the doubt comes before the reason is asked for
        why.fill("the shift ends")
        change.click()
    expect(page.locator("dialog")).to_have_count(0)


def say_name(page: Any) -> None:
    """The page asks for it once a shift."""
    name = page.get_by_role("dialog").get_by_label("Your name")
    if name.count():
        name.fill("Anna")


def confirm(page: Any, action: str) -> None:
    say_name(page)
    page.get_by_role("dialog").get_by_role("button", name=action).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_every_alarm_is_seen_acknowledged_and_ended_on_the_page(browser, trained_model, tmp_path, size):
    shots = tmp_path / "shots"
    with started(tmp_path, bad_day(trained_model, tmp_path)) as daemon:
        daemon.wait_judged(3, "caps")
        # 409: a change of limits that is doubted.
        with opened_page(browser, str(daemon.api.base_url), expected=("409",), **SIZES[size]) as page:
            set_limits(page, "0")
            (tmp_path / "site.yaml").write_text("cameras: {}\n")
            daemon.process.send_signal(signal.SIGHUP)
            wait_for(lambda: standing(daemon) == set(KINDS), f"one alarm of each kind: {standing(daemon)}")
            page.evaluate("scrollTo(0, 0)")
            shot(page, shots, "1-live")
            page.locator(".tabs a[href='#system']").click()
            rows = page.locator("#notice-list [data-stands]")
            expect(rows).to_have_count(len(KINDS))
            shot(page, shots, "2-system")
            for left in range(len(KINDS), 0, -1):
                row = page.locator("#notice-list li:has(button)").first
                row.get_by_role("button").click()  # the name was said with the limits
                expect(page.locator("#notice-list li:has(button)")).to_have_count(left - 1)
            expect(page.locator("#notices")).to_have_text(f"{len(KINDS)} acknowledged, on System")
            shot(page, shots, "3-acknowledged")
            in_german(page, shots)

            page.get_by_role("button", name="Accept drift").click()
            shot(page, shots, "5-accept-drift")
            confirm(page, "Accept")
            shutil.rmtree(tmp_path / "broken")
            shutil.copytree(trained_model, tmp_path / "broken")
            card = page.locator(".unit-card").filter(has=page.get_by_role("heading", name="seals"))
            card.get_by_role("button", name="Self-test").click()
            expect(page.locator("#toast")).to_contain_text("golden images")
            set_limits(page, "1000")
            wait_for(lambda: not standing(daemon) & {"rejects_in_a_row", "yield_below", "drift", "pipeline"}, "ends")
            page.locator(".tile[data-name=labels]").click()
            page.get_by_role("button", name="Trigger").click()
            wait_for(lambda: "no_part" not in standing(daemon), "a part ends its alarm")
            page.locator(".tabs a[href='#system']").click()
            expect(page.locator("#notice-list")).to_contain_text("resolved after")
            shot(page, shots, "6-resolved")
            page.get_by_role("link", name="Changes").click()
            expect(page.locator("#audit")).to_contain_text("acknowledged a notice")
            shot(page, shots, "7-changes")


def in_german(page: Any, shots: Path) -> None:
    """The list speaks German of all that comes from a closed list."""
    page.evaluate("localStorage.setItem('edgead-language', 'de')")
    page.reload()
    listed = page.locator("#notice-list")
    for words in (
        "side: Die Bilder der KameraDie Bilder sind zu dunkel",
        "top: Kamera ohne Bilderverloren: ",
        "lids: Bilder in anderem FormatBilder von ",
    ):
        expect(listed).to_contain_text(words)
    expect(listed).to_contain_text(re.compile("caps: Drift(Teile|die Bilder)[^(]* \\([^a-z]*mehr Teile als sonst"))
    shot(page, shots, "4-german")
    page.evaluate("localStorage.removeItem('edgead-language')")
    page.reload()
    expect(listed).to_contain_text("acknowledged by Anna")
