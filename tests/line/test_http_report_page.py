"""The report and the counters of the page in a real browser, with a real store."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timezone
from socket import gethostname

import pytest
from browser import PHONE, opened_page, shot
from http_side import daemon_with_store, served
from patience import wait_until

from edgead.types import Part

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect
SCORES = (0.1, 0.2, 0.1, 0.3, 0.45, 0.9, 0.9)


@pytest.fixture
def daemon(tmp_path):
    with daemon_with_store(tmp_path, before=0, after=0) as daemon:
        ids = [
            daemon.judge(number, score, "scratch" if score > 0.5 else None, Part(batch=f"b {number % 2}"))
            for number, score in enumerate(SCORES)
        ]
        daemon.store.mark_false_reject(ids[-1], by="Anna", note="dust")
        wait_until(lambda: daemon.store.status()["images_written"] == 7)  # the marked one without loss as well
        yield daemon


@pytest.fixture
def url(daemon):
    with served(daemon) as url:
        yield url


def figures(page, place):
    rows = page.locator(f"{place} [data-figure]").all()
    return {row.get_attribute("data-figure"): row.locator("td, dd").all_inner_texts() for row in rows}


def test_an_order_is_started_and_counted_beside_the_shift(browser, daemon, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#production [data-figure=inspected] td")).to_have_text(["7"])
        assert figures(page, "#production")["yield_after_review"] == ["71.4 %"]
        page.get_by_role("button", name="New order").click()
        page.get_by_label("Name of the order").fill("A-17")
        page.get_by_label("Your name").fill("Anna")
        page.locator("dialog").get_by_role("button", name="Start").click()
        expect(page.locator("#production thead")).to_contain_text("A-17")
        daemon.judge(8, 0.1)
        expect(page.locator("#production [data-figure=inspected] td")).to_have_text(["8", "1"])
        assert figures(page, "#production")["yield"] == ["62.5 %", "100.0 %"]
    assert daemon.store.production.orders.newest()[0]["by"] == "Anna (127.0.0.1)"


def test_frames_without_a_verdict_stand_beside_the_yield_that_they_do_not_change(browser, daemon, url, tmp_path):
    daemon.store.production.passed.add("front", {"paused": 1200, "lost": 30, "late": 4})
    with opened_page(browser, url) as page:
        expect(page.locator("#production [data-figure=uninspected] td")).to_have_text(["1,234"])
        found = figures(page, "#production")
        assert [found[name] for name in ("lost", "late", "paused")] == [["30"], ["4"], ["1,200"]]
        assert found["yield"] == ["57.1 %\nof the inspected"] and "in_fault" not in found
        expect(page.locator("#production .yield-curve i[data-passed]").last).to_have_attribute(
            "title", re.compile("57.1 %, Not inspected: 1,234$")
        )
        shot(page, tmp_path / "shots", "live")
    with opened_page(browser, f"{url}/#report") as page:
        expect(page.locator("#report-total [data-figure=uninspected] dd")).to_have_text("1,234")
        assert figures(page, "#report-total")["yield"] == ["57.1 %\nof the inspected"]
        expect(page.locator("#report-groups tbody [data-label='Not inspected']")).to_have_text("1,234")
        expect(page.locator("#report-groups tbody [data-label='In pauses']")).to_have_text("1,200")
        shot(page, tmp_path / "shots", "report")
    with opened_page(browser, f"{url}/#report", **PHONE, locale="de") as page:
        expect(page.locator("#report-total [data-figure=uninspected]")).to_have_text("Nicht geprüft1.234")
        shot(page, tmp_path / "shots", "report-phone")


def test_an_order_is_chosen_for_the_report_and_a_time_instead_of_it(browser, daemon, url, tmp_path):
    daemon.store.production.orders.start(name="A-17", batch="", by="Anna")
    daemon.judge(10, 0.9, "dent")
    daemon.store.production.orders.start(name="", batch="", by="Anna")
    daemon.judge(11, 0.1)
    with opened_page(browser, f"{url}/#report") as page:
        inspected = page.locator("#report-total [data-figure=inspected] dd")
        expect(inspected).to_have_text("9")
        chosen = page.locator("#report-order")
        expect(chosen.locator("option")).to_have_text(["any", re.compile("^without a name · "), re.compile("^A-17 · ")])
        chosen.select_option(index=2)
        expect(inspected).to_have_text("1")
        expect(page.locator("#report-kinds li")).to_have_text(["dent1100.0 %100.0 %"])
        expect(page.locator("#report-period [aria-pressed=true]")).to_have_count(0)
        shot(page, tmp_path / "shots", "order")
        chosen.select_option(index=1)
        expect(inspected).to_have_text("1")
        expect(page.locator("#report-no-kinds")).to_be_visible()
        page.get_by_role("button", name="Today").click()
        expect(inspected).to_have_text("9")
        expect(chosen).to_have_value("")


def test_a_report_names_the_order_and_its_batch_that_the_figures_are_of(browser, daemon, url):
    for number, name, batch in ((10, "A-100", "B 7"), (11, "A-101", "")):
        daemon.store.production.orders.start(name=name, batch=batch, by="Anna")
        daemon.judge(number, 0.9, "dent")
    with opened_page(browser, f"{url}/#report") as page:
        title = page.locator("#report-title")
        expect(page.locator("#report-kinds li")).to_have_count(2)  # all was loaded once
        page.locator("#report-order").select_option(index=2)
        expect(title).to_have_text(re.compile(r" · A-100, batch B 7 · \d\d:\d\d:\d\d · shift: "))
        page.locator("#report-by").select_option("order")
        expect(title).to_have_text(f"Production report · {gethostname()} · order: A-100, batch B 7")
        expect(page.locator("#report-groups tbody th")).to_have_text(re.compile("^A-100, batch B 7 · "))
        page.get_by_role("button", name="Today").click()
        expect(title).to_contain_text("order: A-100, batch B 7, A-101")


def test_without_shifts_the_shift_is_a_day_in_the_language_of_the_page(browser, url):
    with opened_page(browser, f"{url}/#report", locale="de-DE") as page:
        expect(page.locator("#report-groups tbody th")).to_have_text(re.compile("^Tag · "))


def test_a_report_is_chosen_read_and_saved(browser, url):
    with opened_page(browser, f"{url}/#report") as page:
        expect(page.locator("#report-groups tbody tr")).to_have_count(1)
        page.locator("#report-by").select_option("batch")
        expect(page.locator("#report-groups tbody th")).to_have_text(["b 0", "b 1"])
        assert figures(page, "#report-total")["yield"] == ["57.1 %"]
        expect(page.locator("#report-kinds li")).to_have_text(["scratch1100.0 %100.0 %"])
        expect(page.locator("#report-places li")).to_have_text(["C61100.0 %100.0 %"])
        expect(page.locator("#report-marks li")).to_contain_text("dust")
        with page.expect_download() as saved:
            page.get_by_role("button", name="This table, CSV").click()
        rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
        assert [(row["group"], row["inspected"]) for row in rows] == [("b 0", "4"), ("b 1", "3")]
        page.locator("#report-marks a").click()
        expect(page.locator("#detail")).to_contain_text("dust")


def test_a_report_by_order_names_its_scope_and_shows_no_other_and_prints_with_date_and_device(browser, daemon, url):
    daemon.store.production.orders.start(name="A-17", batch="", by="Anna")
    for number in (10, 11):
        daemon.judge(number, 0.9, "dent")
    daemon.store.marks.mark(daemon.judge(12, 0.1), "bad", by="Anna")
    with opened_page(browser, f"{url}/#report") as page:
        expect(page.locator("#report-kinds li")).to_have_text(["dent266.7 %66.7 %", "scratch133.3 %100.0 %"])
        page.locator("#report-by").select_option("order")
        expect(page.locator("#report-kinds li")).to_have_text(["dent2100.0 %100.0 %"])
        shown = figures(page, "#report-total")
        assert [shown[name] for name in ("inspected", "reject", "false_rejects", "known_escapes")] == [
            ["3"],
            ["2"],
            ["0"],
            ["1"],
        ]
        assert (shown["yield"], shown["yield_after_review"]) == (["33.3 %"], ["0.0 %"])
        expect(page.locator("#report-places li")).to_have_text(["C62100.0 %100.0 %"])
        expect(page.locator("#report-marks li")).to_have_count(1)
        assert page.locator("#report-title").inner_text() == f"Production report · {gethostname()} · order: A-17"
        year = str(datetime.now(timezone.utc).year)
        assert page.locator("#report-note").inner_text().count(year) == 3
        with page.expect_download() as saved:
            page.get_by_role("button", name="All verdicts, CSV").click()
        assert len(list(csv.DictReader(io.StringIO(saved.value.path().read_text())))) == 3
        page.emulate_media(media="print")
        shown = "(notices) => { notices.hidden = false; return getComputedStyle(notices).display; }"
        assert page.locator("#notices").evaluate(shown) == "none"
        expect(page.locator("#report-title")).to_be_visible()


def test_nothing_of_the_report_sticks_out_of_a_phone(browser, url):
    with opened_page(browser, f"{url}/#report", **PHONE) as page:
        expect(page.locator("#report-kinds li")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
