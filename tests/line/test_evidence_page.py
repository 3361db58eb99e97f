"""Evidence in a real browser: a wall of images that is sorted by keys."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browser import PANEL, opened_page, shot
from fake_daemon import FakeDaemon, FakePipeline
from http_side import daemon_with_store, served
from patience import wait_until

from edgead.types import Part

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect

PART = re.compile(r"^Part\d")
REMEMBER = "localStorage.setItem('edgead-name', 'Anna')"


@pytest.fixture
def daemon(tmp_path):
    return FakeDaemon(tmp_path)


def said(daemon: FakeDaemon) -> list[Any]:
    return [row["mark"] and row["mark"]["verdict"] for row in daemon.store.rows]


def test_fifty_rejects_are_sorted_by_keys_within_a_minute(browser, daemon):
    for number in range(50):
        daemon.judge(number, 0.9)
    with served(daemon) as url, opened_page(browser, url) as page:
        page.evaluate(REMEMBER)
        page.goto(f"{url}/#evidence")
        expect(page.locator("#verdicts li")).to_have_count(50)
        expect(page.locator("#detail .badge")).to_have_text("Reject")  # the first one is open
        begun = page.evaluate("performance.now()")
        for number in range(50):
            page.keyboard.press("b" if number % 2 else "g")
        wait_until(lambda: None not in said(daemon))
        taken_s = (page.evaluate("performance.now()") - begun) / 1000
        assert said(daemon) == ["bad", "good"] * 25  # the newest, which is the last row, came first
        expect(page.locator("#verdicts .marked")).to_have_count(50)
        assert taken_s < 60
        assert {row["mark"]["by"].split()[0] for row in daemon.store.rows} == {"Anna"}


def test_a_verdict_on_a_frame_of_another_format_says_so(browser, daemon):
    daemon.judge(0, 0.9)
    daemon.judge(1, 0.9, other_format="proportions")
    with served(daemon) as url, opened_page(browser, url) as page:
        page.goto(f"{url}/#evidence")
        said = page.locator("#detail").get_by_text("Other format than learntparts are cut off or squeezed")
        expect(page.locator("#detail .badge")).to_have_text("Reject")
        expect(said).to_be_visible()
        page.keyboard.press("ArrowDown")
        expect(said).to_have_count(0)


def test_a_part_is_found_by_the_beginning_of_its_number_its_id_or_its_place_in_the_stream(browser, tmp_path):
    with daemon_with_store(tmp_path) as daemon, served(daemon) as url, opened_page(browser, url) as page:
        named = {number: daemon.judge(number, 0.9, part=Part(f"A-00{number}")) for number in (17, 18, 21)}
        nameless = daemon.judge(7, 0.9)
        page.goto(f"{url}/#evidence")
        ids = page.locator("#verdicts button")
        expect(ids).to_have_count(4)
        for text, found in (
            ("A-001", [18, 17]),
            ("A-0021", [21]),
            (named[17][:8].upper(), [17]),
            ("7", [7, 17]),  # newest first
            ("21", [21]),
            ("A-", [21, 18, 17]),
            ("0018", [18]),  # as on a label
            ("a-0017", [17]),
        ):
            page.locator("#evidence-part").fill(text)  # found while it is typed
            links = [f"evidence/{named.get(number, nameless)}/front" for number in found]
            wait_until(lambda links=links: ids.evaluate_all("found => found.map((one) => one.dataset.link)") == links)
        shot(page, tmp_path, "searched")


def test_a_search_without_a_hit_says_what_was_sought_and_leaves_no_part_to_mark(browser, daemon):
    for number in range(2):
        daemon.judge(number, 0.9)
    with served(daemon) as url, opened_page(browser, url) as page:
        page.evaluate(REMEMBER)
        page.goto(f"{url}/#evidence/{daemon.store.rows[0]['id']}/front")
        expect(page.locator("#detail .facts div", has_text=PART)).to_have_text("Part0")
        page.locator("#evidence-part").fill("36")  # one part is looked for among all, not among rejects
        page.keyboard.press("Tab")
        none = page.locator("#no-verdicts")
        expect(none).to_have_text("No part found with: number or id 36")
        expect(page.locator("#detail button")).to_have_count(0)
        page.locator("body").press("g")  # marks nothing
        page.get_by_text("Filters").click()
        page.locator("#evidence-kind").fill("dent")
        page.get_by_role("button", name="Review", exact=True).click()
        expect(none).to_contain_text("No part found with: Review, number or id 36, Kind of defect dent")
        none.get_by_role("button", name="Search all verdicts").click()
        expect(none).to_have_text("No part found with: number or id 36, Kind of defect dent")
        for id in ("part", "kind"):
            page.locator(f"#evidence-{id}").fill("")
        page.locator("#verdicts button").nth(1).click()  # the one that the address named before
        expect(page.locator("#detail .facts div", has_text=PART)).to_have_text("Part0")
        assert said(daemon) == [None, None]


def test_what_a_model_measured_is_a_fact_of_its_verdict(browser, daemon):
    daemon.judge(0, 0.9, measured={"push_mm": -0.312, "alignment": 0.75})
    with served(daemon) as url, opened_page(browser, url) as page:
        page.goto(f"{url}/#evidence")
        for name, value in (("push mm", "-0.3120"), ("alignment", "0.7500")):
            expect(page.locator("#detail dl div").filter(has_text=name).locator("dd")).to_have_text(value)
        expect(page.locator("#detail .words")).to_contain_text("0.31 mm too high")


def test_a_mark_goes_to_the_part_that_the_arrow_before_it_chose(browser, daemon):
    for number in range(6):
        daemon.judge(number, 0.9)
    with served(daemon) as url, opened_page(browser, url) as page:
        page.evaluate(REMEMBER)
        page.goto(f"{url}/#evidence")
        expect(page.locator("#detail .badge")).to_be_visible()
        for key in ("ArrowDown", "b", "ArrowDown", "g"):  # all of them before the page has an answer
            page.evaluate("key => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))", key)
        wait_until(lambda: len(list(filter(None, said(daemon)))) == 2)
        assert said(daemon) == [None, None, "good", None, "bad", None]


def test_undo_takes_marks_back_one_by_one(browser, daemon):
    for number in range(3):
        daemon.judge(number, 0.9)
    with served(daemon) as url, opened_page(browser, url) as page:
        page.evaluate(REMEMBER)
        page.goto(f"{url}/#evidence")
        expect(page.locator("#detail .badge")).to_be_visible()
        for key in "gbb":
            page.keyboard.press(key)
        wait_until(lambda: said(daemon) == ["bad", "bad", "good"])
        page.keyboard.press("u")
        wait_until(lambda: said(daemon) == [None, "bad", "good"])
        expect(page.locator("#detail .facts div", has_text=PART)).to_have_text("Part0")
        page.keyboard.press("u")
        page.keyboard.press("u")
        page.keyboard.press("u")  # nothing is left to take back
        wait_until(lambda: said(daemon) == [None, None, None])
        expect(page.locator("#verdicts .marked")).to_have_count(0)


def test_who_marks_is_asked_once(browser, daemon):
    daemon.judge(0, 0.9)
    daemon.judge(1, 0.9)
    with served(daemon) as url, opened_page(browser, f"{url}/#evidence") as page:
        expect(page.locator("#detail .badge")).to_be_visible()
        page.keyboard.press("g")
        page.locator("dialog").get_by_label("Your name").fill("Anna")
        page.keyboard.press("b")  # a letter of the name's field, and no mark
        assert said(daemon) == [None, None]
        page.locator("dialog").get_by_role("button", name="Mark as false reject").click()
        wait_until(lambda: said(daemon) == [None, "good"])
        expect(page.locator("dialog")).to_have_count(0)
        expect(page.locator("#verdicts button").nth(1)).to_have_attribute("aria-current", "true")
        page.keyboard.press("b")  # of the next part
        wait_until(lambda: said(daemon) == ["bad", "good"])


@pytest.mark.parametrize("language", ["en", "de"])
def test_rows_keep_their_places_while_parts_come_and_a_finger_marks(browser, daemon, language):
    for number in range(6):
        daemon.judge(number, 0.9)
    newest = "Neueste" if language == "de" else "Newest"
    with served(daemon) as url, opened_page(browser, url, **PANEL, has_touch=True, locale=language) as page:
        page.evaluate(REMEMBER)
        page.goto(f"{url}/#evidence")
        rows, button = page.locator("#verdicts button"), page.locator("#evidence-newest")
        expect(page.locator("#detail .badge")).to_be_visible()
        listed = rows.evaluate_all("found => found.map((row) => row.dataset.link)")
        places = [row.bounding_box() for row in rows.all()]
        expect(button).to_have_text(newest)
        rows.nth(1).tap()
        named = "Teil 4" if language == "de" else "part 4"
        expect(page.locator("#detail .detail-head b").first).to_have_text(named)  # beside the buttons that mark it
        for number in (6, 7):
            daemon.judge(number, 0.9)
        page.locator("#detail .detail-head .actions button").nth(1).tap()
        daemon.judge(8, 0.9)
        daemon.judge(9, 0.1)  # good: not of this list
        page.locator("dialog .primary").tap()
        expect(rows.nth(2)).to_have_attribute("aria-current", "true")
        expect(page.locator("#detail .facts div").nth(1)).to_contain_text("3")
        expect(rows.nth(1).locator(".marked")).to_have_count(1)
        expect(button).to_have_text("3 neue" if language == "de" else "3 new")
        assert rows.evaluate_all("found => found.map((row) => row.dataset.link)") == listed
        assert [row.bounding_box() for row in rows.all()] == places
        page.touchscreen.tap(places[2]["x"] + 20, places[2]["y"] + 20)  # where the next one was
        page.locator("#detail .detail-head .actions button").nth(1).tap()
        page.locator("dialog .primary").tap()
        expect(rows.nth(3)).to_have_attribute("aria-current", "true")
        assert said(daemon) == [None, None, None, "bad", "bad", *[None] * 5]
        assert button.bounding_box()["height"] >= page.locator("#decisions button").first.bounding_box()["height"]
        button.tap()
        expect(rows).to_have_count(9)
        expect(rows.first).to_be_in_viewport(ratio=1)
        expect(button).to_have_text(newest)
        assert rows.evaluate_all("found => found.map((row) => row.dataset.link)")[3:] == listed


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("pipelines", [1, 2])
def test_the_decision_is_seen_and_answered_without_scrolling(browser, daemon, language, pipelines, tmp_path):
    daemon.judge(0, 0.9, "scratch")
    if pipelines == 2:
        daemon.pipelines["side"] = FakePipeline(daemon.pipelines["front"].model, name="side")
    size = {"viewport": {"width": 1024, "height": 600}, "locale": language}
    with served(daemon) as url, opened_page(browser, f"{url}/#evidence", **size) as page:
        expect(page.locator("#detail .frame img")).to_be_visible()
        for shown in ("#detail .detail-head .badge", "#detail .detail-head .actions button:nth-child(2)"):
            expect(page.locator(shown)).to_be_in_viewport(ratio=1)
        for shown in ("#detail .frame", "#detail .film button:last-child", "#detail .words"):
            expect(page.locator(shown)).to_be_in_viewport(ratio=1)
        assert page.locator("#detail .frame img").bounding_box()["height"] > 190
        top, newest = (page.locator(shown).bounding_box()["y"] for shown in ("#decisions", "#evidence-newest"))
        assert pipelines == 2 or abs(top - newest) < 5  # in one row
        assert page.evaluate("scrollY") == 0
        shot(page, tmp_path / "shots", f"evidence-{language}-{pipelines}")
        page.locator("#detail .facts div").last.scroll_into_view_if_needed()
        expect(page.locator("#detail .facts div").last).to_be_in_viewport(ratio=1)
