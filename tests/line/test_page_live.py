"""The live view as a shift has it: seen from afar, of one part at a time, with all lines, on every screen."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from accessibility import grave_findings
from browser import HALL, PANEL, PHONE, SIZES, opened_page, shot
from fake_daemon import FakeDaemon, FakePipeline, make_judged
from http_side import served
from patience import wait_until
from test_http_page import HIDDEN_UNDER_THE_BAR

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    daemon.pipelines["side"] = FakePipeline(daemon.pipelines["front"].model, name="side")
    for number in range(12):
        daemon.judge(number, 0.9)
    daemon.judge(12, 0.2, pipeline="side")
    daemon.judge(13, 0.2)
    return daemon


@pytest.fixture
def url(daemon):
    with served(daemon) as url:
        yield url


@contextmanager
def beside(run: Callable[[], None], over: threading.Event) -> Iterator[None]:
    """Let a thread run beside the block, until it sees the event."""
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def fast_line(daemon: FakeDaemon, *, period_s: float = 0.03) -> Iterator[None]:
    """Parts one after the other; of every second one the event goes out before its image is there, as in the daemon."""
    over = threading.Event()

    def run() -> None:
        number = 100
        while not over.wait(period_s):
            number += 1
            judged = make_judged(number, 0.9 if number % 5 == 0 else 0.2)
            daemon.store.add(*judged)
            if number % 2:
                daemon.pipelines["front"].judged = judged
            for listener in daemon.listeners:
                listener.put(judged)
            over.wait(period_s / 3)
            daemon.pipelines["front"].judged = judged

    with beside(run, over):
        yield


# Of each look the number that is drawn on the image, in sixteen black or white blocks, and the one of the verdict.
LOOKS = """async (looks) => { const found = [];
    const canvas = new OffscreenCanvas(160, 120), pen = canvas.getContext('2d', { willReadFrequently: true });
    for (let look = 0; look < looks; look++) {
        await new Promise(requestAnimationFrame);
        const shown = document.getElementById('live-image');
        if (shown.hidden) continue;
        pen.drawImage(shown, 0, 0);
        let number = 0;
        for (let bit = 0; bit < 16; bit++) number |= (pen.getImageData(10 * bit + 5, 8, 1, 1).data[0] > 127) << bit;
        const part = (id) => Number(/part (\\d+)/.exec(document.getElementById(id).textContent)[1]);
        found.push([number, part('verdict-note'), part('image-of')]);
    }
    return found; }"""


@pytest.mark.parametrize("looks", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_image_and_verdict_are_of_one_part_at_every_look(browser, daemon, url, looks):
    with opened_page(browser, url) as page:
        page.get_by_text("Heat map").click()
        expect(page.locator("#live-image")).to_have_attribute("data-overlay", "false")
        wait_until(lambda: daemon.listeners)
        with fast_line(daemon):
            expect(page.locator("#verdict-note")).to_contain_text(re.compile(r"part 1\d\d"))
            found = page.evaluate(LOOKS, looks)
    assert len(found) > looks / 2 and len({number for number, *_ in found}) > 2
    assert [look for look in found if len(set(look)) > 1] == []


@pytest.mark.slow
def test_verdicts_go_on_where_images_fail(browser, daemon, url):
    with opened_page(browser, url, expected=("status of 500",)) as page:
        expect(page.locator("#live-image")).to_be_visible()
        page.route("**/image?**", lambda route: route.fulfill(status=500))
        wait_until(lambda: daemon.listeners)
        daemon.judge(14, 0.9)
        expect(page.locator("#verdict-note")).to_contain_text("part 14")
        expect(page.locator("#live-image")).to_be_hidden()  # it is of another part


def test_the_last_eight_rejects_stay_and_open(browser, daemon, url):
    with opened_page(browser, url) as page:
        strip = page.locator("#rejects button")
        expect(strip).to_have_count(8)
        expect(page.locator("#rejects img")).to_have_count(8)
        expect(strip.first).to_have_attribute("aria-label", re.compile("^Reject, part 11, 200"))
        wait_until(lambda: daemon.listeners)
        daemon.judge(20, 0.9)
        daemon.judge(21, 0.2)
        expect(page.locator("#word")).to_have_text("OK")
        expect(strip.first).to_have_attribute("aria-label", re.compile("^Reject, part 20"))
        expect(page.locator("#rejects img")).to_have_count(8)  # also of the new one, once it is stored
        expect(page.locator("#rejects [data-new]")).to_have_count(1)
        expect(page.locator("#rejects [data-new]")).to_have_count(0)  # though nothing comes that draws it again
        strip.first.click()
        expect(page.locator("#detail .facts")).to_contain_text("Part20")


@contextmanager
def rejecting_line(daemon: FakeDaemon, *, period_s: float) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        number = 200
        while not over.wait(period_s):
            daemon.judge(number, 0.9)
            number += 1

    with beside(run, over):
        yield


@pytest.mark.parametrize("period_s", [0.2, 0.45])
def test_rejects_get_their_images_while_more_and_more_come(browser, daemon, url, period_s):
    with opened_page(browser, url) as page:
        expect(page.locator("#rejects img")).to_have_count(8)
        wait_until(lambda: daemon.listeners)
        new = page.locator("#rejects button[aria-label*='part 2']")
        with rejecting_line(daemon, period_s=period_s):
            expect(new).to_have_count(8)
            expect(new.locator("img").first).to_be_visible()
            # Not `wait_for_function`: where it has to look twice, the page's policy forbids what it does.
            complete = "[...document.querySelectorAll('#rejects img')].every((each) => each.complete)"
            wait_until(lambda: page.evaluate(complete))
        expect(page.locator("#rejects img")).to_have_count(8)


@pytest.mark.slow
def test_an_image_that_is_stored_late_is_shown_without_a_reload(browser, daemon, url, monkeypatch):
    stored = daemon.store._images
    with opened_page(browser, url) as page:
        expect(page.locator("#rejects img")).to_have_count(8)
        wait_until(lambda: daemon.listeners)
        monkeypatch.setattr(daemon.store, "_images", lambda id: [] if id.startswith("000000c8") else stored(id))
        daemon.judge(200, 0.9)
        expect(page.locator("#rejects .no-thumb")).to_have_count(1)
        page.wait_for_timeout(4500)
        monkeypatch.setattr(daemon.store, "_images", stored)
        expect(page.locator("#rejects img")).to_have_count(8)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "decision=reject" in request.url else None)
        page.wait_for_timeout(1500)
        assert asked == []  # all are there


def test_a_reject_and_a_fault_of_another_line_are_seen_and_a_tile_opens_it(browser, daemon, url):
    with opened_page(browser, url) as page:
        side = page.locator('.tile[data-name="side"]')
        expect(side).to_contain_text("OK")
        wait_until(lambda: daemon.listeners)
        daemon.judge(30, 0.9, pipeline="side")
        expect(side).to_have_attribute("data-look", "reject")
        expect(page.locator("#word")).to_have_text("OK")  # of the line that is shown
        daemon.pipelines["side"].state, daemon.pipelines["side"].reason = "fault", "no route to host"
        expect(side).to_have_attribute("data-look", "fault")
        side.click()
        expect(side).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#word")).to_have_text("Fault")
        expect(page.locator("#verdict-note")).to_have_text("no route to host")


def test_a_kiosk_is_the_line_alone_and_leads_out_again(browser, url):
    with opened_page(browser, f"{url}/#kiosk", **PANEL) as page:
        expect(page.locator("#word")).to_have_text("OK")
        for hidden in (".bar", ".live-details", "#pause", "#mark-recent"):
            expect(page.locator(hidden)).to_be_hidden()
        expect(page.get_by_role("button", name="New order")).to_be_hidden()
        page.locator("#rejects button").first.click()
        expect(page.locator("#detail .badge")).to_have_text("Reject")
        expect(page.locator(".bar")).to_be_hidden()
        expect(page.locator("#detail [data-needs]").first).to_be_hidden()
        page.get_by_role("button", name="Back").click()
        expect(page.locator("#word")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".bar")).to_be_visible()
        wait_until(lambda: page.evaluate("location.hash") == "#live")
        page.goto(f"{url}/#kiosk")
        expect(page.locator(".bar")).to_be_hidden()
        page.goto(f"{url}/#system")  # as a link in the banner of alarms does
        expect(page.locator(".bar")).to_be_visible()


@pytest.mark.parametrize("locale", ["en", "de"])
def test_a_panel_has_no_scroll_bar_and_large_counts_stay_in_their_card(browser, url, locale):
    with opened_page(browser, f"{url}/#kiosk", locale=locale, **PANEL) as page:
        expect(page.locator("#rejects img")).to_have_count(8)
        assert page.evaluate("getComputedStyle(document.documentElement).scrollbarWidth") == "none"
        page.evaluate("""() => { // beside a wide image
            document.querySelector(".live-grid").style.setProperty("--ratio", 3);
            for (const count of document.querySelectorAll("#tally dd")) count.firstChild.textContent = "12345"; }""")
        room = page.evaluate("""() => { const words = document.createRange(), card = document.getElementById("tally");
            words.selectNodeContents(card.querySelector("dl"));
            return card.getBoundingClientRect().right - words.getBoundingClientRect().right; }""")
        assert room >= 12
        page.keyboard.press("Escape")
        wait_until(lambda: page.evaluate("getComputedStyle(document.documentElement).scrollbarWidth") == "auto")


@pytest.mark.slow
def test_light_or_dark_is_as_the_system_until_a_person_chooses(browser, url):
    with opened_page(browser, url, color_scheme="dark") as page:
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="Display").click()
        page.get_by_label("Colours").select_option("light")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")


BOTTOM = "(id) => document.getElementById(id).getBoundingClientRect().bottom"


def test_what_an_operator_needs_is_on_the_screen_without_scrolling(browser, url):
    with opened_page(browser, url, **PANEL) as page:
        expect(page.locator("#rejects img")).to_have_count(8)
        for id in ("verdict", "live-image", "image-of", "tally", "rejects"):
            assert page.evaluate(BOTTOM, id) <= 600, id
        page.set_viewport_size(HALL["viewport"])
        for id in ("verdict", "rejects", "chart", "chart-caption", "stream"):
            assert page.evaluate(BOTTOM, id) <= 1080, id
        assert page.evaluate("document.getElementById('word').getBoundingClientRect().height") > 90  # read from 3 m


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1024, 600), (390, 844)])
def test_figures_of_production_are_cut_nowhere_and_a_new_order_stands_in_the_head(browser, url, width, height):
    with opened_page(browser, url, viewport={"width": width, "height": height}) as page:
        expect(page.locator("#production [data-figure=yield_after_review] td").first).to_be_visible()
        expect(page.locator("#production header").get_by_role("button", name="New order")).to_be_visible()
        assert page.evaluate("(({scrollHeight, clientHeight}) => scrollHeight - clientHeight)(production)") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_parts_that_nobody_inspected_are_counted_beside_the_decisions(browser, daemon, url):
    front = daemon.pipelines["front"]
    status = front.status()  # 10 judged, 2 of them late, and 5 that were never judged
    with opened_page(browser, url, **PANEL, locale="de") as page:
        note = page.locator("#tally-note")
        expect(note).to_have_text("Seit dem Start: 5 ohne Urteil, 2 verspätet, von 15")
        front.status = lambda: status
        status.missed = 0
        expect(note).to_have_text("Seit dem Start: 2 verspätet, von 10")
        status.late = 0
        expect(note).to_have_text("Diese Schicht")
        assert page.evaluate(BOTTOM, "tally") <= 600


def test_frames_that_the_trigger_did_not_ask_for_are_counted_with_its_name(browser, daemon, url, tmp_path):
    front = daemon.pipelines["front"]
    status = front.status()
    status.taken, status.unasked, status.late, status.missed = 2000, 1988, 0, 0
    front.status = lambda: status
    with opened_page(browser, url, **PANEL, locale="de", color_scheme="dark") as page:
        said = "1.988 von 2.000 Bildern hat der Auslöser software nicht verlangt"
        expect(page.locator("#tally-trigger")).to_have_text(said)
        assert page.evaluate(BOTTOM, "tally") <= 600 and grave_findings(page) == []
        shot(page, tmp_path / "shots", "unasked-de")
    with opened_page(browser, f"{url}/#system") as page:
        card = page.locator(".unit-card", has_text="1,988 of 2,000 frames were not asked for by the trigger software")
        expect(card.locator(".reason").first).to_have_attribute("data-state", "normal")  # no alarm
        shot(page, tmp_path / "shots", "system")
        status.unasked = 0
        expect(card).to_have_count(0)


def test_a_pipeline_without_a_model_says_so_in_the_language_of_the_page(browser, daemon, url, tmp_path):
    front = daemon.pipelines["front"]
    front.state, front.reason = "starting", "waits for a model: commission one on the page"
    with opened_page(browser, url, **PANEL, locale="de-DE") as page:
        expect(page.locator("#verdict-note")).to_have_text(
            "Wartet auf ein Modell: Richten Sie unter „Einrichten“ eines ein"
        )
        shot(page, tmp_path / "shots", "no-model-de")
        front.state, front.reason = "stopped", "camera top has ended"
        expect(page.locator("#verdict-note")).to_have_text("Die Kamera top ist zu Ende")
        front.state, front.reason = "fault", "no route to host"
        expect(page.locator("#verdict-note")).to_have_text("no route to host")


def test_after_a_restart_the_page_waits_for_the_first_image(browser, daemon, url, tmp_path):
    front = daemon.pipelines["front"]
    status = front.status()
    front.status = lambda: status
    with opened_page(browser, url, **PANEL) as page:
        expect(page.locator("#word")).to_have_text("OK")
        status.judged, status.decisions = 0, {"ok": 0, "review": 0, "reject": 0}
        daemon.pipelines["front"].judged = None
        expect(page.locator("#word")).to_have_text("Waiting")
        expect(page.locator("#live-image")).to_be_hidden()
        expect(page.locator('.tile[data-name="front"]')).to_contain_text("Waits for an image")
        shot(page, tmp_path / "shots", "waits")
        page.reload()
        expect(page.locator("#stream li")).not_to_have_count(0)  # what was judged before is known
        expect(page.locator("#word")).to_have_text("Waiting")
        wait_until(lambda: daemon.listeners)
        daemon.judge(20, 0.9)
        status.judged = 1
        expect(page.locator("#word")).to_have_text("Reject")
        expect(page.locator('.tile[data-name="front"]')).to_have_attribute("data-look", "reject")


def test_the_counts_beside_the_verdict_are_those_of_the_shift(browser, daemon, url):
    front = daemon.pipelines["front"]
    status = front.status()
    status.late = status.missed = 0
    status.decisions = {"ok": 1, "review": 0, "reject": 0}  # the daemon has just started, in the middle of a shift
    front.status = lambda: status
    with opened_page(browser, url, **PANEL) as page:
        expect(page.locator("#tally dd")).to_have_text(["770.0 %", "220.0 %", "110.0 %"])
        expect(page.locator("#tally-note")).to_have_text("This shift")
        expect(page.locator("#production [data-figure=ok] td").first).to_have_text("7")


def test_the_card_of_the_image_is_as_wide_as_the_image(browser, daemon, url):
    with opened_page(browser, url, **HALL) as page:
        expect(page.locator("#live-image")).to_be_visible()
        frame = page.locator(".live-image .frame").bounding_box()
        assert 1.2 < frame["width"] / frame["height"] < 1.6  # of an image of 160 x 120


def test_evidence_is_walked_by_keys_and_looked_at_closely(browser, url):
    with opened_page(browser, url) as page:
        page.get_by_role("link", name="Evidence").click()
        page.locator("#verdicts button").first.click()
        frame = page.locator("#detail .facts div", has_text=re.compile(r"^Part\d"))
        expect(frame).to_have_text("Part11")
        page.keyboard.press("ArrowRight")
        expect(frame).to_have_text("Part10")
        page.get_by_role("button", name="Next").click()
        expect(frame).to_have_text("Part9")
        page.keyboard.press("ArrowUp")
        expect(frame).to_have_text("Part10")
        scale = "new DOMMatrix(getComputedStyle(document.querySelector('.zoom img')).transform).a"
        page.get_by_role("button", name="Larger").click()
        wait_until(lambda: page.evaluate(scale) == 1.5)
        page.locator(".zoom img").dblclick()
        wait_until(lambda: page.evaluate(scale) == 1)
        page.locator(".zoom img").hover()
        page.mouse.wheel(0, -100)
        wait_until(lambda: page.evaluate(scale) == 1.5)
        page.get_by_role("button", name="Smaller").click()
        wait_until(lambda: page.evaluate(scale) == 1)


@pytest.mark.slow
def test_the_way_back_to_the_list_on_a_phone(browser, daemon, url):
    folder = daemon.store.folder / daemon.store.rows[9]["id"]
    for number in range(2, 8):
        shutil.copy(folder / "before-001.jpg", folder / f"before-{number:03}.jpg")
    with opened_page(browser, f"{url}/#evidence", **PHONE) as page:
        page.locator("#verdicts button").nth(2).click()
        expect(page.locator("#detail .film button")).to_have_count(9)
        page.wait_for_timeout(300)
        chosen = page.locator("#detail .film [aria-pressed=true]")
        expect(chosen).to_have_text("Heat map")
        expect(chosen).to_be_in_viewport(ratio=0.99)
        assert page.evaluate("document.querySelector('#verdicts [aria-current]').getBoundingClientRect().bottom") < 48
        page.get_by_role("button", name="Back").click()
        expect(page.locator("#verdicts [aria-current]")).to_be_focused()
        expect(page.locator("#verdicts [aria-current]")).to_be_in_viewport()


def test_the_live_view_has_no_grave_fault_of_accessibility(browser, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#rejects img")).to_have_count(8)
        assert grave_findings(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_view_has_a_grave_fault_of_accessibility(browser, daemon, url, size, theme):
    found = {}
    with opened_page(browser, url, color_scheme=theme, **SIZES[size]) as page:
        for decision, score in {"ok": 0.2, "review": 0.45, "reject": 0.9}.items():
            daemon.judge(40 + int(100 * score), score)
            expect(page.locator("#verdict")).to_have_attribute("data-decision", decision)
            found[decision] = grave_findings(page)
        page.get_by_role("button", name="Display").click()
        found["display"] = grave_findings(page)
        page.keyboard.press("Escape")
        for view in page.evaluate("[...document.querySelectorAll('.tabs a')].map((link) => link.hash)"):
            page.goto(f"{url}/{view}")
            page.wait_for_timeout(500)
            if view == "#live":
                page.get_by_text("Details").click()
            if view == "#evidence":
                page.locator("#verdicts button").first.click()
                expect(page.locator("#detail .facts")).to_be_visible()
            found[view] = grave_findings(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        daemon.pipelines["front"].state, daemon.pipelines["front"].reason = "fault", "no route to host"
        page.goto(f"{url}/#kiosk")
        expect(page.locator("#word")).to_have_text("Fault")
        found["fault"] = grave_findings(page)
    assert {place: faults for place, faults in found.items() if faults} == {}


@pytest.mark.slow
@pytest.mark.parametrize("device", [PANEL, PHONE])
def test_nothing_that_is_gone_to_lies_under_the_bar(browser, url, device):
    with opened_page(browser, url, **device) as page:
        expect(page.locator("#rejects img")).to_have_count(8)
        for id in ("tiles", "verdict", "rejects", "chart"):
            page.evaluate("(id) => document.getElementById(id).scrollIntoView()", id)
            assert page.evaluate(HIDDEN_UNDER_THE_BAR, id) <= 0, id
