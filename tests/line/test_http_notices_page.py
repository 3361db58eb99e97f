"""Alarms on the page, in a real browser: the banner over every view, who has seen it, the sound, the list."""

from __future__ import annotations

import re

import pytest
from browser import SIZES, opened_page, shot
from fake_daemon import FakeDaemon
from http_side import served
from patience import wait_until

from edgead.images.likeness import Misfit, Size
from edgead.line.drift import DriftState
from edgead.serialization.notice import Notice

expect = pytest.importorskip("playwright.sync_api", reason="drives the browser").expect
# Counts what the page would play: a test has no ears.
LISTEN = """window.beeps = []; const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...when) {
        window.beeps.push(this.frequency.value); return start.apply(this, when); };"""


def heard(page) -> int:
    return page.evaluate("window.beeps.length")


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    daemon.judge(1, 0.1)
    return daemon


@pytest.fixture
def url(daemon):
    with served(daemon) as url:
        yield url


def raise_row(daemon: FakeDaemon) -> Notice:
    return daemon.raise_notice("rejects_in_a_row", "5 parts in a row were rejected", value=5.0, limit=5.0)


def test_a_low_yield_shows_the_figure_of_now_beside_the_one_of_then(browser, daemon, url):
    raised = daemon.raise_notice("yield_below", "yield 91.0 %", value=91.0, limit=95.0)
    with opened_page(browser, url) as page:
        notice = page.locator(".notice p span")
        expect(notice).to_have_text("91.0 % of the newest parts passed, the limit is 95 %")
        daemon.notices.measure(raised.key, 93.5)
        expect(notice).to_have_text("91.0 % of the newest parts passed, the limit is 95 %; now 93.5 %", timeout=20_000)


def test_an_alarm_stands_over_every_view_until_somebody_has_seen_it(browser, daemon, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#word")).to_have_text("OK")
        expect(page.locator("#notices")).to_be_hidden()
        raised = raise_row(daemon)
        notice = page.locator(".notice")
        expect(notice).to_contain_text("Alarmfront: Rejects in a row5 parts in a row were rejected: is it")
        expect(page.locator("#notice-said")).to_have_text(re.compile("^Alarm. front: Rejects in a row"))
        for view in ("Evidence", "System", "Changes"):
            page.get_by_role("link", name=view).click()
            expect(notice).to_be_visible()
        notice.get_by_role("button", name="Acknowledge").click()
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
        expect(notice).to_have_count(0)
        expect(page.locator("#notices")).to_have_text("1 acknowledged, on System")
        expect(page.locator("#notice-list li")).to_have_count(1)
        expect(page.locator("#notice-list")).to_contain_text("active · acknowledged by Anna (127.0.0.1)")
        daemon.resolve_notice(raised)
        expect(page.locator("#notices")).to_be_hidden()
        expect(page.locator("#notice-list")).to_contain_text("resolved after")
        raise_row(daemon)
        notice.get_by_role("button", name="Acknowledge").click()  # the name is known
        expect(notice).to_have_count(0)
        expect(page.locator("#notices")).to_have_text("1 acknowledged, on System")


def test_who_comes_late_with_an_acknowledgement_reads_what_came_first(browser, daemon, url):
    with opened_page(browser, f"{url}/#system", expected=("404",)) as page:

        def acknowledge_after(what):
            raised = raise_row(daemon)
            page.evaluate("localStorage.clear()")
            page.locator(".notice").get_by_role("button", name="Acknowledge").click()
            page.get_by_label("Your name").fill("Anna")
            what(raised)
            page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
            return raised

        expect(page.locator("#word")).to_have_text("OK")
        wait_until(lambda: daemon.listeners)
        toast = page.locator("#toast")
        raised = acknowledge_after(lambda raised: daemon.notices.acknowledge(raised.id, by="Ben (h)"))
        expect(toast).to_have_text("Ben (h) has acknowledged it already.")
        daemon.resolve_notice(raised)
        acknowledge_after(daemon.resolve_notice)
        expect(toast).to_have_text("Its cause is over already; it stands under System.")
        late = "acknowledged by Anna (127.0.0.1), after its cause was over"
        expect(page.locator("#notice-list li").first).to_contain_text(late)
        raised = acknowledge_after(lambda raised: None)
        expect(toast).to_have_text("Acknowledged")
        daemon.resolve_notice(raised)
        acknowledge_after(lambda raised: (daemon.resolve_notice(raised), daemon.notices._resolved.clear()))
        expect(page.locator("dialog .form-error")).to_have_text("It was over so long ago that it is no longer listed.")


def test_a_refused_site_file_is_seen_and_so_is_drift_that_nobody_watches(browser, daemon, url):
    daemon.pipelines["front"].drift = DriftState("off", None, "it has no scores of good parts", 0, None, 0.0)
    with opened_page(browser, f"{url}/#system") as page:
        daemon.raise_notice("site", "the site file is not in force: line 3: cameras.c.fps: unknown key")
        seen = "The site file is not in forceline 3: cameras.c.fps: unknown key"
        expect(page.locator(".notice")).to_contain_text(f"Warning{seen}")
        expect(page.locator("#notice-list")).to_contain_text(seen)
        note = page.get_by_text("Drift is not watched: it has no scores of good parts")
        expect(note).to_have_attribute("data-state", "normal")


def test_faults_are_said_in_german(browser, daemon, url):
    """But what an error says of itself, and addresses."""
    with opened_page(browser, f"{url}/#system", locale="de") as page:
        front = daemon.pipelines["front"]
        front.state, front.reason = "fault", "camera top is lost: rtsp://x/1: no frame for 5 s"
        expect(page.locator("#verdict-note")).to_have_text("Kamera top: verloren: rtsp://x/1: kein Bild seit 5 s")
        daemon.raise_notice(
            "site", "some of the site file is not in force: needs a restart: store; front: keeps its model: it broke"
        )
        seen = "Ein Teil der Anlagendatei gilt nichtbraucht einen Neustart: store; front behält sein Modell: it broke"
        expect(page.locator(".notice")).to_contain_text(seen)


@pytest.mark.parametrize(
    ("language", "seen"),
    [
        (
            "en",
            "Alarmfront: Frames of another formatframes of 227 × 120 pixels where the model learnt 227 × 227: "
            "verdicts may be wrong, parts are cut off or squeezed; has the format or the region of the camera changed?",
        ),
        (
            "de",
            "Alarmfront: Bilder in anderem FormatRezept lid: Bilder von 227 × 120 statt 227 × 227 Pixeln: "
            "Urteile können falsch sein, Teile sind abgeschnitten oder verzerrt. "
            "Format oder Ausschnitt der Kamera geändert?",
        ),
    ],
)
def test_frames_of_another_format_are_said_with_both_sizes(browser, daemon, url, tmp_path, language, seen):
    with opened_page(browser, f"{url}/#system", locale=language) as page:
        text = Misfit("proportions", Size(120, 227), Size(227, 227)).text
        daemon.raise_notice("frame_format", text if language == "en" else f"recipe lid: {text}")
        expect(page.locator(".notice")).to_contain_text(seen)
        expect(page.locator("#notice-list")).to_contain_text(seen.removeprefix("Alarm"))
        page.locator(".tabs a[href='#live']").click()
        expect(page.locator(".notice")).to_be_visible()
        shot(page, tmp_path / "shots", f"format-{language}")


# Whether a person sees a word of a banner: what lies below its last line is cut.
SEEN = """(word) => { const text = document.querySelector(".notice p"), part = text.querySelector("span").firstChild;
    const begin = part.data.indexOf(word), range = document.createRange();
    range.setStart(part, begin); range.setEnd(part, begin + word.length);
    return begin >= 0 && range.getBoundingClientRect().bottom <= text.getBoundingClientRect().bottom; }"""


@pytest.mark.parametrize("what", ["proportions", "size", "small"])
@pytest.mark.parametrize(("language", "word"), [("en", "verdicts may be wrong"), ("de", "Urteile können falsch sein")])
def test_a_small_panel_says_of_another_format_that_verdicts_may_be_wrong(browser, daemon, url, language, word, what):
    daemon.raise_notice("frame_format", Misfit(what, Size(1536, 1024), Size(1536, 2048)).text)
    with opened_page(browser, url, locale=language, **SIZES["panel"]) as page:
        expect(page.locator(".notice")).to_contain_text("2048")
        assert page.evaluate(SEEN, word)


@pytest.mark.slow
def test_the_sound_is_off_until_a_person_wants_it_and_ends_with_the_alarm(browser, daemon, url):
    with opened_page(browser, f"{url}/#system") as page:
        page.add_init_script(LISTEN)
        page.reload()
        raised = raise_row(daemon)
        expect(page.locator(".notice")).to_be_visible()
        assert page.evaluate("window.beeps") == []
        page.get_by_text("Sound").click()
        wait_until(lambda: heard(page) >= 6)  # the tone that says that it is on, and the alarm again
        assert set(page.evaluate("window.beeps")) == {880}
        daemon.resolve_notice(raised)
        warned = daemon.raise_notice("no_part", "no part for 60 s", value=61.0, limit=60.0)
        wait_until(lambda: 523 in page.evaluate("window.beeps"))
        daemon.resolve_notice(warned)
        expect(page.locator("#notices")).to_be_hidden()
        before = heard(page)
        page.wait_for_timeout(4000)
        assert heard(page) == before
        page.get_by_role("button", name="Test tone").click()
        wait_until(lambda: heard(page) == before + 3)
        page.get_by_text("Sound", exact=True).click()
        raise_row(daemon)
        expect(page.locator(".notice")).to_be_visible()
        page.wait_for_timeout(3000)
        assert heard(page) == before + 3


@pytest.mark.slow
def test_the_sound_stays_as_this_browser_was_left_and_says_what_it_waits_for(browser, daemon, url):
    with opened_page(browser, f"{url}/#system", expected=("AudioContext",)) as page:
        page.add_init_script(LISTEN + "localStorage.setItem('edgead-sound', 'on');")
        raise_row(daemon)
        # Whatever a test asks of the page counts as a touch: nothing may be asked before the page has tried to sound.
        with page.expect_response("**/api/notices?*"):
            page.reload()
        expect(page.locator("#sound")).to_be_checked()
        expect(page.locator("#sound-note")).to_contain_text("press Test tone once")
        page.locator("#notice-title").click()
        wait_until(lambda: heard(page) >= 3)
        expect(page.locator("#sound-note")).to_be_hidden()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_banner_and_the_list_fit_and_can_be_used_by_keys(browser, daemon, url, tmp_path, size, scheme):
    raise_row(daemon)
    daemon.raise_notice("camera", "lost: no route to " + "a-host-with-a-long-name." * 6)
    daemon.raise_notice("no_part", "no part for 60 s", value=61.0, limit=60.0)
    with opened_page(browser, url, color_scheme=scheme, **SIZES[size]) as page:
        expect(page.locator(".notice")).to_have_count(2 if size == "hall" else 1)
        expect(page.locator(".notice-more")).to_have_text(f"{1 if size == 'hall' else 2} more on System")
        height = page.locator("#notices").bounding_box()["height"]
        assert height < 0.3 * SIZES[size]["viewport"]["height"]
        shot(page, tmp_path / "shots", "live")
        page.locator(".notice-more").click()
        expect(page.locator("#notice-list li")).to_have_count(3)
        shot(page, tmp_path / "shots", "system")
        page.locator(".notice button").first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.type("Anna")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator("#notice-list")).to_contain_text("acknowledged by Anna")
