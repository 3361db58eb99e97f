"""The operator's page in a real browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from accessibility import grave_findings
from browser import PANEL, PHONE, SIZES, opened_page, shot
from fake_daemon import TOKEN, FakeDaemon
from http_side import served
from patience import wait_until
from pydantic import SecretStr
from test_focus import moved
from test_page_words import PAGE

from edgead.images.files import write_image
from edgead.line.site.schema import HttpSection
from edgead.line.site.status import MarkedScores
from edgead.synthetic.line import render
from edgead.types import Part

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    for number, score in enumerate([0.1, 0.45, 0.9, 0.2]):
        daemon.judge(number, score)
    return daemon


@pytest.fixture
def url(daemon):
    with served(daemon) as url:
        yield url


def test_the_live_view_follows_the_line(browser, daemon, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#word")).to_have_text("OK")
        expect(page.locator("#stream li")).to_have_count(4)
        expect(page.locator("#live-image")).to_be_visible()
        expect(page.locator("#connection")).to_have_text("Connected")
        wait_until(lambda: daemon.listeners)
        id = daemon.judge(7, 0.9)
        expect(page.locator("#word")).to_have_text("Reject")
        expect(page.locator("#score")).to_have_text("200")
        expect(page.locator("#score-unit")).to_have_text("limit 100")
        expect(page.locator("#stream li").first).to_contain_text("part 7")
        expect(page.locator("#live-image")).to_have_attribute("data-frame", id)
        expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("5 scores: 2 rejected, 1 for review"))
        page.get_by_text("Details").click()
        expect(page.locator("#raw-score")).to_have_text("0.9000")
        expect(page.locator("#latency")).to_contain_text("network")


def test_the_heat_map_can_be_taken_away(browser, daemon, url):
    daemon.judge(7, 0.9)
    red = """() => { const image = document.getElementById('live-image'), canvas = document.createElement('canvas');
        canvas.width = image.width; canvas.height = image.height;
        const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);
        const [r, g, b] = pen.getImageData(100, 50, 1, 1).data; return r - b; }"""
    with opened_page(browser, url) as page:
        expect(page.locator("#live-image")).to_have_attribute("data-overlay", "true")
        wait_until(lambda: page.evaluate(red) > 40)
        page.get_by_text("Heat map").click()
        expect(page.locator("#live-image")).to_have_attribute("data-overlay", "false")
        wait_until(lambda: page.evaluate(red) < 12)


def test_evidence_opens_with_its_images(browser, daemon, url):
    with opened_page(browser, url) as page:
        page.get_by_role("link", name="Evidence").click()
        expect(page.locator("#verdicts li")).to_have_count(1)  # rejects first
        page.get_by_role("button", name="All", exact=True).click()
        expect(page.locator("#verdicts li")).to_have_count(4)
        page.locator("#verdicts button", has_text="Reject").click()
        expect(page.locator("#detail .film button")).to_have_text(["1 before", "Frame", "Heat map"])
        expect(page.locator("#detail .facts")).to_contain_text("40 × 20 px at 80, 40")
        page.get_by_role("button", name="1 before").click()
        large = page.locator("#detail .frame img")
        expect(large).to_have_attribute("src", re.compile("/before-001.jpg\\?pipeline=front$"))
        wait_until(lambda: large.evaluate("image => image.naturalWidth") == 160)
        page.get_by_role("button", name="This part was good").click()
        page.get_by_label("Your name").fill("Anna")
        page.get_by_label("Note").fill("dust")
        page.get_by_role("button", name="Mark as false reject").click()
        expect(page.locator("#verdicts .marked")).to_have_count(1)
        expect(page.locator("#detail .badge")).to_have_text("Review")  # the next older one
        page.locator("#verdicts button", has_text="Reject").click()
        expect(page.locator("#detail .marked-note")).to_contain_text("False reject, says Anna (127.0.0.1)")
    assert daemon.store.rows[2]["false_reject"]["note"] == "dust"


def test_verdicts_of_a_part_are_found_by_its_serial_number(browser, daemon, url):
    daemon.judge(8, 0.9, part=Part("A-17", "b 7"))
    with opened_page(browser, url) as page:
        page.get_by_role("link", name="Evidence").click()
        expect(page.locator("#verdicts li")).to_have_count(2)
        page.get_by_label("Value of the part").fill("A-17")
        page.get_by_label("Value of the part").press("Enter")
        expect(page.locator("#verdicts li")).to_have_count(1)
        page.locator("#verdicts button", has_text="A-17").click()
        expect(page.locator("#detail .facts")).to_contain_text("b 7")
        page.get_by_label("Part's").select_option("batch")
        expect(page.locator("#no-verdicts")).to_be_visible()


def test_evidence_is_filtered_by_kind_time_and_score(browser, daemon, url):
    daemon.judge(9, 0.7)
    daemon.store.rows[-1]["kind"] = "scratch"
    with opened_page(browser, f"{url}/#evidence") as page:
        listed = page.locator("#verdicts li")
        expect(listed).to_have_count(2)
        page.get_by_text("Filters", exact=True).click()
        page.get_by_label("Kind of defect").fill("scratch")
        page.get_by_label("Kind of defect").press("Enter")
        expect(listed).to_have_count(1)
        page.get_by_label("Kind of defect").fill("")
        page.get_by_label("Score from").fill("180")
        page.get_by_label("Score from").press("Enter")
        expect(listed).to_have_count(1)
        expect(listed).to_contain_text("200")
        page.get_by_label("Until").fill("2020-01-01T00:00")
        page.get_by_label("Until").press("Enter")
        expect(page.locator("#no-verdicts")).to_be_visible()
        page.get_by_role("button", name="Newest").click()  # of all times
        expect(listed).to_have_count(1)


def test_a_lens_is_turned_by_numbers_over_the_image(browser, daemon, url):
    with opened_page(browser, f"{url}/#system") as page:
        page.get_by_role("button", name="Focus").click()
        box = page.locator("dialog.focus")
        expect(box).to_contain_text("Sharpness 100 % of the best since this was opened")
        expect(box).to_contain_text("Overexposed:")
        daemon.cameras["conveyor"].frame.image[:] = 90  # nothing is sharp any more
        daemon.judge(8, 0.1)
        daemon.cameras["conveyor"].frame.image[:] = 90
        expect(box).to_contain_text("Sharpness 0 % of the best")
        box.get_by_role("button", name="Close").click()
        expect(box).to_have_count(0)


def test_blur_by_motion_is_said_with_its_direction(browser, daemon, url, tmp_path):
    """On a line without golden images: the part lay still first."""
    still, camera = render(3)[0], daemon.cameras["conveyor"]
    camera.frame = replace(camera.frame, image=still, id="1")
    with opened_page(browser, f"{url}/#system", **PANEL, locale="de-DE", color_scheme="dark") as page:
        page.locator(".unit-card button", has_text=re.compile("^(Schärfe|Fokus|Scharfstellen)$")).click()
        box = page.locator("dialog.focus")
        expect(box).to_contain_text("Kanten von links nach rechts 100 %, von oben nach unten 100 %")
        expect(box.locator(".form-error")).to_be_hidden()
        for axis, words in enumerate(("Von links nach rechts verwischt", "Von oben nach unten verwischt")):
            camera.frame = replace(camera.frame, image=moved(still, 7, axis), id=words)
            expect(box.locator(".form-error")).to_contain_text(words)
        shot(page, tmp_path / "shots", "motion-de")
        assert grave_findings(page) == []
        camera.frame = replace(camera.frame, image=cv2.GaussianBlur(still, (0, 0), 2), id="defocus")
        expect(box.locator(".form-error")).to_be_hidden()


def test_a_verdict_can_be_linked_to(browser, daemon, url):
    with opened_page(browser, f"{url}/#evidence/{daemon.store.rows[2]['id']}") as page:
        expect(page.locator("#detail .badge")).to_have_text("Reject")


def test_a_reject_without_a_region_says_where_to_look(browser, daemon, url):
    row = daemon.store.rows[2]
    row["boxes"] = []
    with opened_page(browser, f"{url}/#evidence/{row['id']}") as page:
        expect(page.locator("#detail .facts")).to_contain_text("the ring shows the most unusual place")


def test_a_changed_threshold_stands_in_the_audit(browser, daemon, url):
    daemon.pipelines["front"].marked = MarkedScores([0.2, 0.45, 0.9], [], 0)
    with opened_page(browser, url) as page:
        page.get_by_text("Details").click()
        page.get_by_role("button", name="Change limits").click()
        rows = page.locator(".preview tbody tr")
        expect(page.locator("dialog output")).to_have_text("100")
        page.get_by_role("slider", name="Limit").fill("50")  # half way from 0.1 to 0.5
        expect(page.get_by_label("Reject above")).to_have_value("0.3")
        expect(rows.nth(0)).to_contain_text("about 1 in 5")
        expect(rows.nth(1)).to_contain_text("0 of 4")
        page.get_by_label("Reject above").fill("0.16")
        expect(page.locator("dialog output")).to_have_text("15")
        expect(rows.nth(0)).to_contain_text("about 1 in 2")
        expect(rows.nth(1).locator(".differs")).to_have_text("1 of 4")
        expect(rows.nth(2)).to_contain_text("1 of 4, 1 to review3 of 4")
        expect(rows.nth(3)).to_contain_text("Parts marked good1 of 3, 1 to review3 of 3")
        expect(rows.nth(4)).to_contain_text("none yet")
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("dialog .form-error")).to_contain_text("may not lie above")
        page.get_by_label("Review above").fill("0.12")
        page.get_by_role("button", name="Continue").click()
        assert daemon.pipelines["front"].calls == []  # not before it was confirmed
        page.locator("dialog").last.get_by_role("button", name="Change limits").click()
        expect(page.locator("#toast")).to_have_text("Limits changed")
        expect(page.locator("#reject-threshold")).to_have_text("0.1600, for this part 0.5000")
        daemon.judge(100, 0.2, threshold=0.16, review_threshold=0.12)
        expect(page.locator("#raw-score")).to_have_text("0.2000")
        expect(page.locator("#reject-threshold")).to_have_text("0.1600")
        page.get_by_role("link", name="Changes").click()
        row = page.locator("#audit tr").first
        expect(row).to_contain_text("Anna set the limit from 100 to 15, review above 5Details")
        row.locator("summary").click()
        expect(row.locator("code")).to_have_text(re.compile(r'"Anna \(127.0.0.1\)".*"reject":0.5.*"reject":0.16'))
        expect(page.locator("#chain")).to_contain_text("The record is whole: 1 changes, hash of the last")
        daemon.store.audit_chain.problem = "row 1 of 2026-11-28 was changed: its hash is not that of what it says"
        page.reload()
        expect(page.locator("#chain")).to_contain_text("The record of changes is broken: row 1 of 2026-11-28")


def test_marks_of_parts_that_another_model_judged_are_not_passed_over_in_silence(browser, daemon, url):
    for row in daemon.store.rows[:2]:
        row |= {"model": "1" * 64}
    daemon.pipelines["front"].marked = MarkedScores([], [], 2)
    for locale, named, said in (
        ("en-GB", "Parts marked bad", "2 judged by another model"),
        ("de-DE", "Als schlecht markierte Teile", "2 von einem anderen Modell beurteilt"),
    ):
        with opened_page(browser, url, locale=locale) as page:
            # The page changes its layout when the state arrives.
            page.locator("#change-thresholds:enabled").wait_for(state="attached")
            page.get_by_text(re.compile("Details|Einzelheiten")).click()
            page.get_by_role("button", name=re.compile("Change limits|Grenzen ändern")).click()
            bad = page.locator(".preview tr", has_text=named)
            expect(bad.locator("td")).to_have_text([said, said])
            expect(page.locator(".preview tr").nth(3).locator("td")).to_have_text([re.compile("^1 (of|von) 2$")] * 2)


def test_the_last_look_at_a_higher_limit_says_which_bad_parts_pass(browser, daemon, url):
    daemon.pipelines["front"].marked = MarkedScores([], [0.3], 0)
    with opened_page(browser, url) as page:  # no review any more, where the part that is marked bad passes already
        page.locator("#change-thresholds:enabled").wait_for(state="attached")
        page.get_by_text("Details").click()
        page.get_by_role("button", name="Change limits").click()
        page.get_by_label("Review above").fill("0.5")
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("dialog").last).to_contain_text("no part that is marked bad is stopped now")
    daemon.pipelines["front"].marked = MarkedScores([], [0.55], 1)
    with opened_page(browser, url) as page:
        page.locator("#change-thresholds:enabled").wait_for(state="attached")
        page.get_by_text("Details").click()
        page.get_by_role("button", name="Change limits").click()
        page.get_by_label("Review above").fill("0.6")
        page.get_by_label("Reject above").fill("0.6")
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Continue").click()
        said = page.locator("dialog").last.locator(".form-error:not([hidden])")
        expect(said.nth(0)).to_have_text("Parts marked bad that would pass and do not now: 1")
        expect(said.nth(1)).to_contain_text("another model judged, so that nobody knows whether they pass: 1")


RAW = {"review": 0.4, "reject": 0.5}
LESSON = {"verdicts": ["a", "b"], "bad_parts": 5, "because": "dust", "state": "running"}
# Action, before, after, and what is said of it in English.
CHANGES = [
    ("thresholds", RAW | {"typical_score": 0.1}, {"review": 0.38, "reject": 0.38}, "set the limit from 100 to 70"),
    ("thresholds", RAW, {"review": 0.4, "reject": 0.6, "reason": "dust"}, "raised the limit: dust"),
    ("thresholds", RAW, {"review": 0.3, "reject": 0.5}, "changed from where on parts go to review"),
    (
        "swap model",
        "/m/old (0123456789abcdef)",
        "/m/new (fedcba9876543210)",
        "put “new” into service in place of “old”",
    ),
    ("roll back model", "/m/new (fedcba9876543210)", "/m/old", "rolled the model back from “new” to “old”"),
    ("roll back on fault", "/m/new", "/m/old", "“new” had a fault: “old” judges again"),
    (
        "commission model",
        None,
        {"model": "/m/caps-2", "camera": "top", "images": 24},
        "kept the model “caps-2”, learnt from 24 good parts of camera top",
    ),
    ("accept drift", "images darker", None, "accepted the drift: images darker"),
    (
        "follow again",
        "pinned sha256:aa",
        "oci://r/caps:stable",
        "let the pipeline follow its tag again: oci://r/caps:stable",
    ),
    ("mark_bad", None, {"id": "gone", "note": "", "verdict": "bad"}, "marked a part as bad"),
    ("take_back_mark", {"id": "gone", "verdict": "bad"}, {"id": "gone"}, "took back the mark of a part"),
    ("rename_kind", "kind 1", "scratch", "renamed the kind “kind 1” to “scratch”"),
    ("merge_kinds", "kind 2", "scratch", "merged the kind “kind 2” into “scratch”"),
    (
        "split_kind",
        {"kind": "scratch", "judged": "kind 2"},
        None,
        "took “kind 2” out of the kind “scratch”, as “kind 2”",
    ),
    ("correct_kind", {"id": "gone", "kind": None}, {"id": "gone", "kind": "dent"}, "set the kind of a part to dent"),
    ("correct_kind", {"id": "gone", "kind": "dent"}, {"id": "gone", "kind": None}, "took back the kind of a part"),
    ("start_order", None, {"name": "A-17", "batch": "3"}, "began the order A-17: batch 3"),
    ("teach", None, LESSON, "began a lesson (good parts: 2, bad parts: 5): dust"),
    ("accept lesson", None, LESSON, "accepted a lesson (good parts: 2, bad parts: 5): dust"),
    ("discard lesson", None, LESSON, "discarded a lesson (good parts: 2, bad parts: 5): dust"),
    ("pause", None, {"reason": "cleaning", "minutes": 15}, "paused for 15 min: cleaning"),
    ("pause", None, {"reason": "", "minutes": None}, "paused"),
    ("resume", "by Anna", None, "resumed"),
    (
        "send images",
        None,
        "caps: 24 images for camera top",
        "sent images of good parts: caps: 24 images for camera top",
    ),
    ("change draft", {"camera": "top"}, {"camera": "top", "wanted": 30}, "changed the draft of camera top"),
    ("leave image out", None, {"camera": "top", "image": "000001.png"}, "left an image out of the draft of camera top"),
    ("put image back", None, {"camera": "top", "image": "1.png"}, "put an image back into the draft of camera top"),
    ("discard draft", {"camera": "top", "images": 7}, None, "discarded the draft of camera top with 7 images"),
    ("unlock", None, {"role": "engineer", "minutes": 10}, "unlocked a panel for 10 min"),
    ("unlock_refused", None, None, "was refused at a locked panel"),
    ("lock", None, None, "locked a panel"),
    (
        "thresholds, undone",
        {"review": 0.38, "reject": 0.38},
        RAW | {"typical_score": 0.1},
        "set the limit from 100 to 70",
    ),
    ("of_a_plug_in", None, {"x": 1}, ": of a plug in"),
]


def test_changes_are_sentences_with_what_is_recorded_under_details(browser, daemon, url, tmp_path):
    for action, before, after, _ in CHANGES[::-1]:
        daemon.store.add_audit(by="Anna (10.0.0.7)", action=action, pipeline="front", before=before, after=after)
    marked = daemon.judge(709, 0.9)
    mark = {"id": marked, "note": "dust", "verdict": "bad"}
    daemon.store.add_audit(by="Olga (10.0.0.7)", action="mark_bad", pipeline="front", before=None, after=mark)
    gone = ("404", "422")  # the records of some parts
    with opened_page(browser, f"{url}/#changes", expected=gone, **PANEL, locale="en-GB") as page:
        rows = page.locator("#audit tr")
        expect(rows).to_have_count(1 + len(CHANGES))
        link = rows.first.get_by_role("link", name="Evidence of part 709")
        expect(link.locator("img")).to_have_js_property("complete", True)
        said = [row.locator("td").nth(1).inner_text().removesuffix("Details").strip() for row in rows.all()]
        assert said[0] == "Olga marked part 709 as bad: dust"
        for text, (action, *_, sentence) in zip(said[1:], CHANGES, strict=True):
            full = sentence if action == "roll back on fault" else f"Anna {sentence}".replace(" :", ":")
            assert text == ("Failed, and taken back: " * action.endswith("undone")) + full
        assert grave_findings(page) == []
        shot(page, tmp_path / "shots", "changes-en")
        rows.nth(1).locator("summary").focus()
        page.keyboard.press("Enter")
        raw = json.loads(rows.nth(1).locator("code").inner_text())
        assert raw == {"by": "Anna (10.0.0.7)", "action": "thresholds", "before": CHANGES[0][1], "after": CHANGES[0][2]}
        link.click()
        expect(page.locator("#detail")).to_contain_text("Part709")
    for size in ("hall", "phone"):
        with opened_page(browser, f"{url}/#changes", expected=gone, **SIZES[size], locale="de-DE") as page:
            expect(page.locator("#audit tr").first).to_contain_text("Olga hat Teil 709 als schlecht markiert: dust")
            expect(page.locator("#audit tr").nth(1)).to_contain_text("Anna hat die Grenze von 100 auf 70 gesetzt")
            shot(page, tmp_path / "shots", f"changes-de-{size}")


def test_what_has_ended_has_no_rate(browser, daemon, url):
    with opened_page(browser, f"{url}/#system") as page:
        rate = page.locator(".unit-card .numbers div", has_text=re.compile("Frames/s|Per second")).locator("dd")
        expect(rate).to_have_text(["24.5", "9.5"])
        daemon.cameras["conveyor"].state, daemon.pipelines["front"].state = "ended", "stopped"
        expect(rate).to_have_text(["—", "—"])


def test_without_a_review_limit_there_is_one_limit_to_set(browser, daemon, url):
    daemon.pipelines["front"].thresholds = {"review": 0.5, "reject": 0.5}
    with opened_page(browser, f"{url}/#system") as page:
        page.get_by_role("button", name="Limits").click()
        expect(page.get_by_label("Review above")).to_be_hidden()
        page.get_by_role("slider", name="Limit").fill("125")
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("dialog").last).to_contain_text("Limit 100 → 125")
        expect(page.locator("dialog").last).not_to_contain_text("Review above")
        page.locator("dialog").last.get_by_role("button", name="Change limits").click()
        expect(page.locator("#toast")).to_have_text("Limits changed")
    assert daemon.pipelines["front"].calls == [("thresholds", 0.6, 0.6, "Anna (127.0.0.1)")]


def test_a_limit_that_may_be_blind_is_taken_with_a_reason_only(browser, daemon, url):
    with opened_page(browser, f"{url}/#system", expected=("status of 409",)) as page:
        page.get_by_role("button", name="Limits").click()
        page.get_by_label("Reject above").fill("9")
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Continue").click()
        dialog = page.locator("dialog").last
        dialog.get_by_role("button", name="Change limits").click()
        expect(dialog).to_contain_text("no part that is marked bad is stopped now")
        error = dialog.locator(".form-error[role=alert]")
        expect(error).to_contain_text("the new limit may be blind")
        expect(error).to_contain_text("If it is right all the same, give a reason.")
        expect(error).not_to_contain_text("--reason")
        expect(error).to_have_css("white-space", "pre-line")  # each thing that was found has a line of its own
        assert daemon.pipelines["front"].calls == []
        dialog.get_by_label("Why").fill("another lamp")
        dialog.get_by_role("button", name="Change limits").click()
        expect(page.locator("#toast")).to_have_text("Limits changed")
    assert daemon.pipelines["front"].calls == [("thresholds", 0.4, 9.0, "Anna (127.0.0.1)")]


def test_the_trigger_and_the_model_are_reached(browser, daemon, url):
    with opened_page(browser, url) as page:
        page.get_by_role("button", name="Trigger").click()
        expect(page.locator("#toast")).to_contain_text("next part of front")
        page.get_by_role("link", name="System").click()
        page.get_by_role("button", name="Self-test").click()
        expect(page.locator("#toast")).to_contain_text("golden images")
        page.get_by_role("button", name="Change model").click()
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("button", name="Test and change").click()
        expect(page.locator("#toast")).to_have_text("The model was changed")
    assert [call[0] for call in daemon.pipelines["front"].calls] == ["fire", "swap"]


def test_images_are_judged_where_the_line_takes_them(browser, daemon, url, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "broken.png", "b.jpg")]
    for path in paths:
        write_image(path, np.zeros((8, 8, 3), np.uint8))
    paths[1].write_text("none")
    with opened_page(browser, url, expected=("422",)) as page:
        judge = page.get_by_role("button", name="Judge images")
        expect(judge).to_be_hidden()
        camera = daemon.site.cameras["conveyor"].model_copy(update={"uri": "request:"})
        daemon.site = daemon.site.model_copy(update={"cameras": {"conveyor": camera}})
        expect(judge).to_be_enabled()
        with page.expect_file_chooser() as chooser:
            judge.click()
        chooser.value.set_files(paths)
        expect(page.locator("#toast")).to_contain_text("broken.png: it cannot be read as an image")
        named = [("judge", Part("a.png")), ("judge", Part("b.jpg"))]
        wait_until(lambda: daemon.pipelines["front"].calls == named)


HIDDEN_UNDER_THE_BAR = """(id) => document.querySelector('.bar').getBoundingClientRect().bottom
    - document.getElementById(id).getBoundingClientRect().top"""


@pytest.mark.parametrize("device", [{"viewport": {"width": 1280, "height": 500}}, PHONE])
def test_live_chosen_again_leaves_the_verdict_below_the_bar(browser, url, device):
    with opened_page(browser, url, **device) as page:
        expect(page.locator("#word")).to_have_text("OK")
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        wait_until(lambda: page.evaluate(HIDDEN_UNDER_THE_BAR, "verdict") > 0)
        page.get_by_role("link", name="Live", exact=True).click()
        wait_until(lambda: page.evaluate(HIDDEN_UNDER_THE_BAR, "verdict") <= 0)
        page.wait_for_timeout(200)
        assert page.evaluate(HIDDEN_UNDER_THE_BAR, "verdict") <= 0


def test_a_verdict_opened_on_a_phone_has_its_image_below_the_bar(browser, url):
    with opened_page(browser, url, **PHONE) as page:
        page.get_by_role("link", name="Evidence").click()
        page.locator("#verdicts button", has_text="Reject").click()
        expect(page.locator("#detail .badge")).to_have_text("Reject")
        wait_until(lambda: -60 < page.evaluate(HIDDEN_UNDER_THE_BAR, "detail") <= 0)


def test_drift_stands_over_the_live_view_once_and_is_a_warning_and_no_fault(browser, daemon, url):
    daemon.store.problems = lambda: ()
    daemon.queued["problem"] = None
    notice = daemon.raise_notice("drift", daemon.pipelines["front"].drift.reason)
    with opened_page(browser, url) as page:
        drifted = page.locator("#live, #notices").get_by_text("the camera's images look different (darker)")
        expect(drifted).to_have_count(1)
        expect(page.locator(".notice")).to_contain_text("Warningfront: Drift")
        expect(page.locator("#system-issues")).to_have_attribute("data-state", "watch")
        expect(page.locator("#system-issues")).to_have_attribute("aria-label", "0 faults, 2 warnings")
        page.get_by_role("link", name="What to do").click()
        page.get_by_role("button", name="Accept drift").click()
        expect(page.locator("dialog")).to_contain_text("Since part 80: the camera's images look different (darker).")
        page.get_by_label("Your name").fill("Anna")
        page.locator("dialog").get_by_role("button", name="Accept").click()
        daemon.resolve_notice(notice)
        page.get_by_role("link", name="Live", exact=True).click()
        expect(page.locator("#notices")).to_be_hidden()
        daemon.pipelines["front"].state = "fault"
        expect(page.locator("#system-issues")).to_have_attribute("data-state", "bad")


def test_a_fault_is_reported_and_no_verdict_stands_over_it(browser, daemon, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#word")).to_have_text("OK")
        daemon.pipelines["front"].state, daemon.pipelines["front"].reason = "fault", "camera conveyor: no route to host"
        expect(page.locator("#word")).to_have_text("Fault")
        expect(page.locator("#verdict-note")).to_have_text("camera conveyor: no route to host")
        daemon.cameras["conveyor"].state, daemon.cameras["conveyor"].reason = "lost", "no route to host"
        page.get_by_role("link", name="System").click()
        expect(page.locator("#system")).to_contain_text("no route to host")
        expect(page.locator("#system-issues")).to_have_text("4")  # camera, pipeline, sink, store


def test_a_lost_connection_cannot_be_overlooked_and_repairs_itself(browser, daemon):
    lost = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    with served(daemon) as url:
        opening = opened_page(browser, url, expected=lost)
        page = opening.__enter__()
        expect(page.locator("#word")).to_have_text("OK")
    expect(page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible()
    expect(page.locator("#word")).to_have_text("No connection")
    daemon.judge(9, 0.9)
    with served(daemon, int(url.rpartition(":")[2])):
        expect(page.locator("#connection")).to_have_text("Connected")
        expect(page.locator("#word")).to_have_text("Reject")
        wait_until(lambda: len(daemon.listeners) > 1)
        daemon.judge(10, 0.1)  # events flow again
        expect(page.locator("#word")).to_have_text("OK")
        opening.__exit__(None, None, None)


@pytest.fixture
def guarded_url(tmp_path):
    daemon = FakeDaemon(tmp_path, http=HttpSection(port=0, token=SecretStr(TOKEN)))
    daemon.judge(1, 0.9)
    with served(daemon) as url:
        yield url


def test_a_wrong_token_is_refused_and_the_right_one_opens(browser, guarded_url):
    with opened_page(browser, guarded_url, expected=("status of 401",)) as page:
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.locator("#live")).to_be_hidden()
        page.get_by_label("Token").fill("let-me-in-please-now")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#sign-in .form-error")).to_have_text("the token is wrong")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_label("Token").press("Enter")
        expect(page.locator("#word")).to_have_text("Reject")
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Trigger").click()  # with the session's CSRF token
        expect(page.locator("#toast")).to_contain_text("next part")
        page.reload()
        expect(page.locator("#word")).to_have_text("Reject")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.locator("#live")).to_be_hidden()


@pytest.mark.parametrize("view", ["live", "evidence", "kinds", "report", "system", "changes"])
def test_nothing_sticks_out_of_a_phone(browser, url, view):
    with opened_page(browser, f"{url}/#{view}", **PHONE) as page:
        expect(page.locator(f"#{view}")).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        small = """[...document.querySelectorAll('button, .tabs a')].filter((one) => one.checkVisibility()
            && one.getBoundingClientRect().height < 36).map((one) => one.textContent)"""
        assert page.evaluate(small) == []


def test_a_reject_is_said_in_words_of_the_browsers_language(browser, daemon, url):
    shown = f"{url}/#evidence/{daemon.store.rows[2]['id']}/front"
    for locale, words in {
        "en-GB": "Reject: 40 x 20 px; score 200 (limit 100)",
        "de-AT": "Ausschuss: 40 x 20 px; Wert 200 (Grenze 100)",
    }.items():
        with opened_page(browser, shown, locale=locale) as page:
            expect(page.locator(".words")).to_contain_text(words)


def test_the_page_speaks_the_browsers_language_or_the_chosen_one(browser, daemon, url):
    with opened_page(browser, url, locale="de-AT") as page:
        expect(page.locator("html")).to_have_attribute("lang", "de")
        expect(page.locator("#connection")).to_have_text("Verbunden")
        expect(page.get_by_role("link", name="Belege")).to_be_visible()
        page.get_by_role("button", name="Anzeige").click()
        page.get_by_label("Sprache").select_option("en")
        expect(page.locator("#connection")).to_have_text("Connected")
        page.reload()
        expect(page.locator("#connection")).to_have_text("Connected")
        expect(page.locator("html")).to_have_attribute("lang", "en")


NOT_TRANSLATED = """() => { const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        let [text, before] = [texts.currentNode.data.trim(), null];
        while (text !== before) [before, text] = [text, text.replaceAll(/«[^«»]*»/g, '')]; // the innermost first
        if (/[A-Za-z]{3}/.test(text) && texts.currentNode.parentElement.checkVisibility()) found.push(text);
    }
    return found; }"""
DATA = re.compile(
    "edgead|MiB|API|Nov|front|conveyor|plc|first|rtsp:.*|modbus:.*|synthetic:|[0-9a-f-]+|away|preprocess.*"
    "|the camera's images look different.*|images are not kept.*"
)


@pytest.mark.slow
def test_no_text_of_the_page_misses_the_table(browser, daemon, url):
    """Every text in a table that marks it: what stands there without a mark did not come from the table."""
    table = json.loads((PAGE / "words" / "de.json").read_text("utf-8"))
    marked = {text: f"«{text}»" for text in table}
    with opened_page(browser, url, locale="de") as page:
        page.route("**/page/words/de.json", lambda route: route.fulfill(json=marked))
        for view in ("live", "evidence", "kinds", "report", "teach", "commission", "system", "changes"):
            page.goto(f"{url}/#{view}")
            page.reload()
            expect(page.locator(f"#{view}")).to_be_visible()
            page.wait_for_timeout(300)
            assert [
                text for text in page.evaluate(NOT_TRANSLATED) if re.search("[A-Za-z]{3}", DATA.sub("", text))
            ] == []


def test_everything_is_reached_by_keyboard(browser, url):
    with opened_page(browser, url) as page:
        expect(page.locator("#word")).to_have_text("OK")
        reached = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.hash"))
        assert {"#evidence", "#kinds", "#system", "#changes", "overlay", "fire", "open-settings"} <= reached


def test_the_list_of_the_api_needs_no_other_host(browser, url):
    with opened_page(browser, f"{url}/docs") as page:
        expect(page.locator("summary").filter(has_text="/thresholds")).to_have_count(1)
        page.locator("summary").filter(has_text="/thresholds").click()
        expect(page.locator("details[open]")).to_contain_text("not below `review`")
