"""The page for people: sign-in by name, what a role sees of it, a panel that a PIN unlocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

import pytest
from browser import opened_page
from fake_daemon import FakeDaemon
from patience import wait_until
from people import PANEL, PASSWORDS, PIN, make_section

from edgead.line.site.shifts import ShiftSection
from edgead.line.web.app import build_app
from edgead.line.web.server import serve

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect


@contextmanager
def served(folder, **more) -> Iterator[tuple[FakeDaemon, str]]:
    daemon = FakeDaemon(folder, http=make_section(folder, **more))
    for number, score in enumerate([0.1, 0.9]):
        daemon.judge(number, score)
    server = serve(build_app(daemon), daemon.site.http)
    try:
        yield daemon, f"http://127.0.0.1:{server.port}"
    finally:
        server.close()


def sign_in(page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#who")).to_contain_text(name)


def test_a_name_ends_with_the_shift_and_where_the_page_is_left_alone(browser, tmp_path):
    daemon = FakeDaemon(tmp_path)
    daemon.judge(1, 0.9)
    gone = "!localStorage.getItem('edgead-name')"
    server = serve(build_app(daemon), daemon.site.http)
    with closing(server), opened_page(browser, f"http://127.0.0.1:{server.port}/#evidence") as page:
        wait_until(lambda: page.evaluate("localStorage.getItem('edgead-name-shift')"))
        page.get_by_role("button", name="This part was bad").click()
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("dialog").get_by_role("button", name="Mark as bad").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.reload()
        page.wait_for_timeout(1500)
        page.keyboard.press("g")  # the same shift: nobody is asked
        wait_until(lambda: daemon.store.rows[0]["mark"]["verdict"] == "good")
        late = ShiftSection(starts=(datetime.now() - timedelta(minutes=1)).time())
        daemon.site = daemon.site.model_copy(update={"shifts": {"late": late}})
        wait_until(lambda: page.evaluate(gone))
        page.get_by_role("button", name="This part was bad").click()
        expect(page.get_by_label("Your name")).to_have_value("")
        page.get_by_label("Your name").fill("Ben")
        page.get_by_role("dialog").get_by_role("button", name="Mark as bad").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.evaluate("localStorage.setItem('edgead-touched', Date.now() - 3_700_000)")
        wait_until(lambda: page.evaluate(gone))


def test_a_person_signs_in_and_sees_what_the_role_may(browser, tmp_path):
    with served(tmp_path) as (daemon, url), opened_page(browser, url, expected=("status of 401",)) as page:
        page.get_by_label("Name").fill("vera")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#sign-in .form-error")).to_have_text("the name or the password is wrong")
        sign_in(page, "vera")
        expect(page.locator("#word")).to_have_text("Reject")
        page.get_by_text("Details").click()
        expect(page.get_by_role("button", name="Change limits")).to_have_count(0)
        expect(page.get_by_role("button", name="Trigger")).to_have_count(0)
        page.get_by_role("button", name="Sign out").click()
        sign_in(page, "otto")
        expect(page.get_by_role("button", name="Trigger")).to_be_visible()
        expect(page.locator("#reject-threshold")).to_be_visible()
        expect(page.get_by_role("button", name="Change limits")).to_have_count(0)
        page.get_by_role("link", name="Evidence").click()
        page.locator("#verdicts button", has_text="Reject").click()
        page.get_by_role("button", name="This part was good").click()
        expect(page.get_by_label("Your name")).to_have_count(0)
        page.get_by_role("button", name="Mark as false reject").click()
        expect(page.locator("#detail .marked-note")).to_contain_text("False reject, says otto (signed in, 127.0.0.1)")


def test_a_panel_is_unlocked_by_a_pin_and_locks_again(browser, tmp_path):
    with served(tmp_path) as (daemon, url), opened_page(browser, url, expected=("status of 40",)) as page:
        page.get_by_role("button", name="Use a token").click()
        page.get_by_label("Token").fill(PANEL)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#who")).to_have_text("press-3 · may look")
        for pin in ("0852", PIN):
            page.get_by_role("button", name="Unlock").first.click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("Name").fill("anna")
            dialog.get_by_label("PIN").fill(pin)
            dialog.get_by_role("button", name="Unlock").click()
            if pin != PIN:
                expect(dialog.locator(".form-error")).to_have_text("the name or the PIN is wrong")
                dialog.get_by_role("button", name="Cancel").click()
        expect(page.locator("#who")).to_have_text("anna · engineer")
        page.get_by_text("Details").click()
        page.get_by_role("button", name="Change limits").click()
        page.get_by_label("Reject above").fill("0.7")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("dialog").last).to_contain_text("anna stands in the list of changes")
        page.locator("dialog").last.get_by_role("button", name="Change limits").click()
        expect(page.locator("#reject-threshold")).to_have_text(re.compile("0.7"))
        page.get_by_role("button", name="Lock", exact=True).click()
        expect(page.locator("#who")).to_have_text("press-3 · may look")
        expect(page.get_by_role("button", name="Change limits")).to_have_count(0)
    assert [row["action"] for row in daemon.store.changes] == ["lock", "thresholds", "unlock", "unlock_refused"]


@pytest.mark.slow
def test_the_panel_locks_by_itself_when_the_time_is_over(browser, tmp_path):
    with served(tmp_path, unlock_minutes=0.05) as (_, url), opened_page(browser, url) as page:
        page.get_by_role("button", name="Use a token").click()
        page.get_by_label("Token").fill(PANEL)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Unlock").click()
        page.get_by_role("dialog").get_by_label("Name").fill("anna")
        page.get_by_role("dialog").get_by_label("PIN").fill(PIN)
        page.get_by_role("dialog").get_by_role("button", name="Unlock").click()
        expect(page.locator("#who")).to_have_text("anna · engineer")
        expect(page.locator("#who")).to_have_text("press-3 · may look")
        expect(page.get_by_role("button", name="Change limits")).to_have_count(0)
