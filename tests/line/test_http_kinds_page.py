"""The page's view of kinds in a real browser, with a real store: from a reject to a kind with a name to the Pareto."""

from __future__ import annotations

import re

import pytest
from browser import PANEL, PHONE, opened_page, shot
from http_side import daemon_with_store, served
from patience import wait_until

from edgead.types import UNKNOWN_KIND

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect
KINDS = ["kind 1", "kind 2", "kind 1", UNKNOWN_KIND, "kind 1", "kind 3"]


@pytest.fixture
def daemon(tmp_path):
    with daemon_with_store(tmp_path, before=0, after=0) as daemon:
        for number, kind in enumerate(KINDS):
            daemon.judge(number, 0.9, kind)
        wait_until(lambda: daemon.store.status()["images_written"] == 2 * len(KINDS))
        yield daemon


@pytest.fixture
def url(daemon):
    with served(daemon) as url:
        yield url


def test_a_model_without_kinds_says_how_it_gets_some(browser, tmp_path):
    with daemon_with_store(tmp_path, before=0, after=0) as daemon, served(daemon) as url:
        daemon.judge(0, 0.9)
        with opened_page(browser, f"{url}/#kinds", **PANEL) as page:
            expect(page.locator("#kinds-unknown")).to_contain_text("sort its last rejects, and name the heaps")
            expect(page.get_by_role("button", name="Sort the last rejects")).to_be_enabled()
            expect(page.locator("#pareto li")).to_have_count(1)
            shot(page, tmp_path / "shots", "no-kinds")
            daemon.judge(1, 0.9, "scratch")  # by a model of before
            page.get_by_role("button", name="Refresh").click()
            expect(page.locator("#pareto li")).to_have_count(2)
            expect(page.locator("#kinds-unknown")).to_contain_text("taught or exchanged after they were named")
            daemon.pipelines["front"].knows_kinds = True
            expect(page.locator("#kinds-unknown")).to_be_hidden()
            page.reload()
            expect(page.locator("#pareto li")).to_have_count(2)
            expect(page.locator("#kinds-unknown")).to_be_hidden()


def pareto(page):
    """What stands in its rows: name, then count, share and sum."""
    rows = page.locator("#pareto .pareto-row").all()
    return [[*row.locator(".kind-name").all_inner_texts(), *row.locator(".number").all_inner_texts()] for row in rows]


def confirm(page, action):
    page.get_by_label("Your name").fill("Anna")
    page.locator("dialog").get_by_role("button", name=action).click()
    expect(page.locator("dialog")).to_have_count(0)


def row_of(page, kind):
    return page.locator("#pareto").get_by_role("button", name=re.compile(f"^{kind}: "))


def test_a_reject_gets_its_kind_the_kind_its_name_and_both_stand_in_the_pareto(browser, daemon, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#verdict-note")).to_contain_text("part 5, kind 3")
        page.get_by_role("button", name=re.compile("Reject, part 5")).click()
        expect(page.locator("#detail .kind")).to_have_text("kind 3")
        page.get_by_role("button", name="Another kind").click()
        page.get_by_label("Kind", exact=True).fill("kind 1")
        confirm(page, "Set the kind")
        expect(page.locator("#detail .kind")).to_have_text("kind 1")
        expect(page.locator("#detail .facts")).to_contain_text("Judged to bekind 3")
        expect(page.locator("#detail .facts")).to_contain_text("Anna (127.0.0.1)")
        page.locator("#detail .facts").get_by_role("link", name="kind 1").click()
        expect(page.locator("#kind-title")).to_have_text("kind 1")
        expect(page.locator("#kind-images li")).to_have_count(4)
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("New name").fill("scratch")
        confirm(page, "Rename")
        expect(page.locator("#kind-title")).to_have_text("scratch")
        expect(row_of(page, "scratch")).to_have_attribute("aria-current", "true")
        assert pareto(page) == [
            ["scratch\nkind 1", "4", "66.7 %", "66.7 %"],
            ["kind 2", "1", "16.7 %", "83.3 %"],
            [UNKNOWN_KIND, "1", "16.7 %", "100.0 %"],
        ]
        expect(page.locator("#kinds-note")).to_have_text("6 rejects in the last 8 hours")
        page.get_by_role("link", name="Live", exact=True).click()
        expect(page.locator("#stream li").last).to_contain_text("scratch · part 0")
        expect(page.locator("#rejects button").first).to_contain_text("scratch")
        page.get_by_role("link", name="Changes").click()
        expect(page.locator("#audit tr").first).to_contain_text("Anna renamed the kind “kind 1” to “scratch”")
        expect(page.locator("#audit tr").last).to_contain_text("set the kind of")
    assert daemon.store.kinds.names("front") == {"kind 1": "scratch"}


def test_kinds_are_merged_and_taken_apart(browser, daemon, url):
    with opened_page(browser, f"{url}/#kinds/front") as page:
        row_of(page, "kind 2").click()
        expect(page.get_by_role("button", name="Take apart")).to_be_hidden()
        page.get_by_role("button", name="Merge").click()
        expect(page.get_by_label("Is the same as").locator("option")).to_have_text(["kind 1", "kind 3"])
        confirm(page, "Merge")
        expect(page.locator("#kind-title")).to_have_text("kind 1")
        expect(page.locator("#kind-images li")).to_have_count(4)
        page.get_by_role("button", name="Take apart").click()
        page.get_by_label("Kind of the model").select_option("kind 2")
        page.get_by_label("Its name from now on").fill("hole")
        confirm(page, "Take it out")
        expect(row_of(page, "hole")).to_be_visible()
        expect(page.locator("#kind-images li")).to_have_count(3)
        row_of(page, UNKNOWN_KIND).click()
        expect(page.locator("#kind-images li")).to_have_count(1)
        for change in ("Rename", "Merge", "Take apart"):  # they are no one kind
            expect(page.get_by_role("button", name=change)).to_be_hidden()


def test_a_name_that_is_taken_is_refused_in_the_dialog(browser, url):
    with opened_page(browser, f"{url}/#kinds/front/kind%201", expected=("status of 409",)) as page:
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("New name").fill("kind 2")
        page.get_by_label("Your name").fill("Anna")
        page.locator("dialog").get_by_role("button", name="Rename").click()
        expect(page.locator("dialog .form-error")).to_contain_text("has a kind 'kind 2' already: merge them")


def test_positions_are_drawn_where_the_boxes_are(browser, daemon, url):
    """The box is 40 x 20 pixels at 80, 40 of 160 x 120; the canvas is four times as large."""
    # Read once: for more the browser would have the canvas made otherwise.
    red = """(places) => { const pen = document.getElementById('positions').getContext('2d');
        const { data } = pen.getImageData(0, 0, 640, 480);
        return places.map(([x, y]) => data[4 * (640 * y + x)] - data[4 * (640 * y + x) + 2]); }"""
    with opened_page(browser, f"{url}/#kinds/front") as page:
        expect(page.locator("#positions-note")).to_have_text("6 of 6 rejects have a place; up to 6 overlap")
        inside, left, below = page.evaluate(red, [[400, 200], [200, 200], [500, 300]])
        assert inside > 100 and abs(left) < 12 and abs(below) < 12
        daemon.judge(90, 0.9, "kind 1", boxes=())
        row_of(page, "kind 1").click()
        expect(page.locator("#positions-note")).to_have_text("3 of 4 rejects have a place; up to 3 overlap")


def test_facts_of_a_part_of_unknown_kind_are_in_the_language_of_the_page(browser, daemon, url):
    daemon.judge(90, 0.9, "unknown kind", boxes=())
    with opened_page(browser, f"{url}/#evidence", locale="de") as page:
        expect(page.locator("#verdicts .about").first).to_contain_text("unbekannte Fehlerart")
        expect(page.locator("#detail .words")).to_contain_text("keine einzelne Stelle sticht heraus")
        facts = page.locator("#detail .facts")
        expect(facts.locator("a")).to_have_text("unbekannte Fehlerart")
        expect(facts.locator("a")).to_have_attribute("href", "#kinds/front/unknown%20kind")
        expect(facts.locator("div", has_text="Stufen")).to_have_text(re.compile(r"Netz [\d,]+, "))
        expect(facts).not_to_contain_text(re.compile("unknown|infer|preprocess"))
        page.goto(f"{url}/#kinds")
        expect(page.locator("#kind-images .about").first).to_have_text("unbekannte Fehlerart")


def test_an_image_of_a_kind_leads_to_its_evidence(browser, daemon, url):
    with opened_page(browser, f"{url}/#kinds/front/kind%203") as page:
        image = page.locator("#kind-images img")
        expect(image).to_have_attribute("src", re.compile("/heat.jpg"))
        page.locator("#kind-images button").click()
        expect(page.locator("#detail .kind")).to_have_text("kind 3")
        page.get_by_role("button", name="This part was good").click()
        confirm(page, "Mark as false reject")
        page.get_by_role("link", name="Kinds").click()
        expect(page.locator("#kinds-note")).to_contain_text("5 rejects in the last 8 hours; 1 more were marked as")


def test_nothing_sticks_out_of_a_phone(browser, url):
    with opened_page(browser, f"{url}/#kinds/front/kind%201", **PHONE) as page:
        expect(page.locator("#kind-images li")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
