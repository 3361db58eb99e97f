"""The loop from operator to model in a real browser: parts are marked, taught, compared, accepted and rolled back."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from browser import SIZES, opened_page, shot
from daemons import conveyor, make_site, started
from fake_daemon import FakeDaemon
from fakes import content
from http_side import served
from patience import wait_for, wait_until

from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.folder import Artifact
from edgead.line.daemon.teaching.lesson_process import DoubtfulPart, LessonState
from edgead.synthetic.line import schedule

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    for number, score in enumerate([0.1, 0.9]):
        daemon.judge(number, score)
    return daemon


def say_who(page: Any, action: str, name: str = "Anna") -> None:
    """Answer the dialog that is open."""
    box = page.locator("dialog").last
    box.get_by_label("Your name").fill(name)
    box.get_by_role("button", name=action, exact=True).click()
    expect(page.locator("dialog")).to_have_count(0)


def test_a_lesson_under_way_is_kept_or_discarded_in_these_words(browser, daemon):
    begun = {"pipeline": "front", "by": "Anna", "since": datetime.now(timezone.utc), "model_sha256": "0" * 64}
    daemon.lessons.found = [LessonState(**begun, good=(daemon.store.rows[0]["id"],), bad=0)]
    with served(daemon) as url, opened_page(browser, f"{url}/#teach") as page:
        page.get_by_role("button", name="Cancel the lesson").click()
        expect(page.locator("dialog button")).to_have_text(["Keep on", "Discard"])
        page.get_by_role("button", name="Keep on").click()
        expect(page.locator("dialog")).to_have_count(0)
        assert daemon.lessons.calls == []
        page.get_by_role("button", name="Cancel the lesson").click()
        say_who(page, "Discard")
    assert daemon.lessons.calls == [("discard", "front", "Anna (127.0.0.1)")]


def test_an_ok_part_of_the_last_ones_is_marked_bad_and_the_mark_is_taken_back(browser, daemon):
    with served(daemon) as url, opened_page(browser, url) as page:
        page.get_by_role("button", name="Mark a part").click()
        rows = page.locator(".recent-parts li")
        expect(rows).to_have_count(2)
        rows.nth(1).get_by_label("Bad").check()  # the newest comes first
        say_who(page, "Mark")
        expect(page.locator("#toast")).to_have_text("part 0 marked, and its frame is kept without loss")
        assert [row["mark"] and row["mark"]["verdict"] for row in daemon.store.rows] == ["bad", None]
        page.goto(f"{url}/#evidence/{daemon.store.rows[0]['id']}/front")
        expect(page.locator("#detail .marked-note")).to_contain_text("Bad, says Anna (127.0.0.1)")
        page.get_by_role("button", name="Take the mark back").click()
        say_who(page, "Take it back")
        expect(page.locator("#detail .marked-note")).to_have_count(0)
    assert daemon.store.rows[0]["mark"] is None


def test_parts_that_another_model_judged_say_so_and_are_taught_only_when_somebody_chooses_them(browser, daemon):
    before, of_now = daemon.judge(2, 0.9, model="1" * 64), daemon.judge(3, 0.9)
    for id in (before, of_now):
        daemon.store.mark_false_reject(id, by="Anna")
    with served(daemon) as url, opened_page(browser, f"{url}/#teach") as page:
        rows = page.locator("#teach-good li")
        expect(rows).to_have_count(2)
        expect(rows.filter(has_text="judged by another version or model")).to_have_count(1)
        expect(page.locator("#teach-good input:checked")).to_have_count(1)
        page.get_by_role("button", name="Teach 1 part").click()
        say_who(page, "Teach")
    assert daemon.lessons.calls == [("start", "front", [of_now], "Anna (127.0.0.1)", "")]


def test_what_the_guard_refuses_is_learnt_only_when_somebody_insists(browser, daemon):
    id = daemon.store.rows[1]["id"]
    daemon.store.mark_false_reject(id, by="Anna")
    why = "one place stands out 1.43 times as far as in good images: a defect?"
    doubt = DoubtfulPart(verdict=id, of_limit=1.8, scaled_score=310.4, doubt=why)
    lesson = LessonState(
        pipeline="front",
        state="refused",
        by="Anna",
        since=datetime.now(timezone.utc),
        good=(id,),
        bad=0,
        model_sha256="0" * 64,
        doubtful=(doubt,),
    )
    daemon.lessons.found = [lesson]
    with served(daemon) as url, opened_page(browser, f"{url}/#teach") as page:
        expect(page.locator("#lesson")).to_contain_text("Parts that stand far from anything good: 1")
        expect(page.locator("#lesson .doubt")).to_have_text(doubt.doubt)
        expect(page.locator("#lesson .lesson-parts")).to_contain_text("score 310")
        page.get_by_role("button", name="They are good: learn them all the same").click()
        page.get_by_label("Why they are good").fill("a new\nlamp")
        say_who(page, "Learn all the same", "Ben")
        daemon.lessons.found = [lesson.model_copy(update={"doubtful": (), "reason": "1 bad parts would be ok"})]
        expect(page.locator("#lesson")).to_contain_text("1 bad parts would be ok")
        expect(page.get_by_role("button", name="learn them all the same")).to_have_count(0)
        page.get_by_role("button", name="Discard").click()
        say_who(page, "Discard", "Ben")
    by = "Ben (127.0.0.1)"
    assert daemon.lessons.calls == [("start", "front", [id], by, "a new lamp"), ("discard", "front", by)]


def test_the_page_says_that_a_limit_of_a_person_stays_and_that_golden_images_would_be_rejected(browser, daemon):
    counted = {"images": 1, "reject": 0, "review": 0}
    side = {"taught": counted, "held_out": counted, "bad": counted, "good": counted, "false_reject_rate": 0.05}
    side |= {"golden_scores": [0.1], "typical_score": 0.1, "parts": [], "review_threshold": 0.3}
    side |= {"limit_by_hand": True}
    report = {when: {"fp32": {**side, "reject_threshold": of}} for when, of in (("before", 0.5), ("after", 0.475))}
    report["after"]["fp32"]["golden_scores"] = [4.0]
    now = {"by": "Anna", "since": datetime.now(timezone.utc), "model_sha256": "0" * 64}
    daemon.lessons.found = [LessonState(pipeline="front", state="ready", good=(), bad=1, report=report, **now)]
    with served(daemon) as url, opened_page(browser, f"{url}/#teach") as page:
        expect(page.locator("#lesson .marked-note")).to_contain_text(
            [
                "Golden images of good parts that would be rejected after the lesson: 1.",
                "The limit in force, 0.5000, was set by a person and stays: 0.4750 with",
            ]
        )


def test_a_lesson_with_what_may_be_a_defect_and_no_bad_part_is_accepted_only_with_a_tick(browser, daemon):
    id = daemon.store.rows[0]["id"]
    counted, none = {"images": 1, "reject": 0, "review": 0}, {"images": 0, "reject": 0, "review": 0}
    part = {"verdict": id, "role": "taught", "score": 1.7, "scaled_score": 339.0, "of_limit": 3.4}
    side = {"taught": counted, "held_out": none, "bad": none, "good": counted, "false_reject_rate": 0.05}
    part |= {"decision": "reject", "good_above": 0}
    side |= {"golden_scores": [0.1], "typical_score": 0.1, "parts": [part], "review_threshold": 0.3}
    report = {when: {"fp32": {**side, "reject_threshold": 0.5}} for when in ("before", "after")}
    now = {"by": "Anna", "since": datetime.now(timezone.utc), "model_sha256": "0" * 64}
    daemon.lessons.found = [LessonState(pipeline="front", state="ready", good=(id,), bad=0, report=report, **now)]
    daemon.pipelines["front"].knows_kinds = True
    with served(daemon) as url, opened_page(browser, f"{url}/#teach") as page:
        page.get_by_role("button", name="Accept").click()
        expect(page.locator("dialog")).to_contain_text(
            "It names no kinds of defects any more, until you name them again"
        )
        tick = page.locator("dialog").get_by_label("No bad part tests this lesson, and a part of it had the score 339")
        page.get_by_label("Your name").fill("Anna")
        page.locator("dialog").get_by_role("button", name="Accept", exact=True).click()
        expect(tick).to_be_visible()
        assert daemon.lessons.calls == []
        tick.check()
        page.locator("dialog").get_by_role("button", name="Accept", exact=True).click()
        expect(page.locator("dialog")).to_have_count(0)
    assert daemon.lessons.calls == [("accept", "front", "Anna (127.0.0.1)")]


def test_bad_parts_alone_are_taught_and_a_button_that_rests_says_why(browser, daemon):
    for number in range(2, 5):
        daemon.judge(number, 0.9)
    bad = [row["id"] for row in daemon.store.rows if row["decision"] == "reject"][:3]
    why = (
        "Choose parts that were good, or mark three that were bad.",
        "Choose parts that were good, or mark two more that were bad.",
        "Choose parts that were good, or mark one more that was bad.",
    )
    with served(daemon) as url, opened_page(browser, f"{url}/#teach") as page:
        for words, id in zip(why, bad, strict=True):
            expect(page.locator("#teach-why")).to_have_text(words)
            expect(page.locator("#teach-start")).to_be_disabled()
            daemon.store.marks.mark(id, "bad", by="Anna")
            page.reload()
        expect(page.locator("#teach-note")).to_have_text("Marked good: 0, bad: 3")
        expect(page.locator("#teach-why")).to_be_hidden()
        page.get_by_role("button", name="Teach 3 known defects").click()
        expect(page.locator("dialog")).to_contain_text("learns the parts that are marked bad as known defects")
        say_who(page, "Teach")
        lesson = LessonState(
            pipeline="front",
            by="Anna",
            since=datetime.now(timezone.utc),
            good=(),
            bad=3,
            model_sha256="0" * 64,
        )
        daemon.lessons.found = [lesson]
        page.reload()
        expect(page.locator("#lesson")).to_contain_text("Known defects: 3, asked by Anna")
        expect(page.locator("#teach-why")).to_have_text("A lesson is under way.")
        expect(page.locator("#teach-start")).to_be_disabled()
    assert daemon.lessons.calls == [("start", "front", [], "Anna (127.0.0.1)", "")]


# On the built-in line, with a real model

SEED, COUNT, BATCH, RATE = 7, 12, 4, 0.4
LESSON_S = 900.0
DEFECTS = [defect for _, defect in schedule(SEED, COUNT, RATE)]


def decisions(daemon: Any) -> dict[int, tuple[str, str]]:
    """What was last said of each part that goes round, and the id of that verdict."""
    found = daemon.api.get("/api/verdicts", params={"limit": COUNT}).raise_for_status().json()["verdicts"]
    return {one["number"] % COUNT: (one["decision"], one["id"]) for one in reversed(found)}


def wait_turn(daemon: Any) -> dict[int, tuple[str, str]]:
    """Wait until each part has come again."""
    daemon.wait_judged(COUNT + 1)
    return decisions(daemon)


def lesson_of(daemon: Any) -> dict[str, Any]:
    (lesson,) = daemon.api.get("/api/lessons").raise_for_status().json()["lessons"]
    return lesson


def wait_lesson(daemon: Any) -> dict[str, Any]:
    """Wait for the end of a lesson; it comes after all other work of the machine, and so may take its time."""
    deadline = time.monotonic() + LESSON_S
    while (lesson := lesson_of(daemon))["state"] == "running":
        assert time.monotonic() < deadline, lesson
        time.sleep(0.2)
    return lesson


def look_at(page: Any, id: str, decision: str) -> None:
    """Find a part in Evidence, and open it."""
    page.get_by_role("link", name="Evidence").click()
    with page.expect_response("**/api/verdicts?*"):
        page.locator(f"#decisions [data-decision={decision}]").click()
    expect(page.locator(f"#verdicts .badge:not([data-decision={decision}])")).to_have_count(0)
    rows, row = page.locator("#verdicts button"), page.locator(f"#verdicts [data-link='evidence/{id}/a']")
    expect(rows.first).to_be_visible()
    while row.count() == 0:  # where others use the machine many parts have come since
        listed = rows.count()
        page.get_by_role("button", name="Older").click()
        expect(rows).not_to_have_count(listed)
    row.click()
    expect(page.locator("#detail .facts")).to_contain_text(id)  # and not the one before any more
    expect(page.locator("#detail .detail-head .badge")).to_have_attribute("data-decision", decision)


def mark(page: Any, id: str, button: str, action: str) -> None:
    """Mark a rejected part in Evidence."""
    look_at(page, id, "reject")
    page.locator("#detail").get_by_role("button", name=button).click()
    say_who(page, action)


def mark_missed(page: Any, daemon: Any, number: int, shots: Path) -> None:
    """Mark a defect that has just passed, among the last parts on Live."""
    page.get_by_role("link", name="Live", exact=True).click()
    newest = {"limit": 1}
    came = wait_for(
        lambda: [
            one["number"]
            for one in daemon.api.get("/api/verdicts", params=newest).json()["verdicts"]
            if one["number"] % COUNT == number
        ],
        "the part that is missed",
    )
    page.get_by_role("button", name="Mark a part").click()
    row = page.locator(".recent-parts li").filter(has_text=re.compile(rf"part {came[0]}\b"))
    row.get_by_label("Bad").check()
    shot(page, shots, "3-missed")
    say_who(page, "Mark")
    expect(page.locator("#toast")).to_contain_text("kept without loss")


def teach(page: Any, daemon: Any) -> dict[str, Any]:
    """Start a lesson on the page and wait for its end."""
    page.get_by_role("link", name="Teach").click()
    page.locator("#teach-start").click()
    say_who(page, "Teach")
    return wait_lesson(daemon)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_the_loop_from_operator_to_model(browser, model_copy, tmp_path, size):
    shots = tmp_path / "shots"
    more = f"&repeat=1&defect_rate={RATE}&batch={BATCH}"
    site = make_site(model_copy, cameras={"conveyor": conveyor(2, seed=SEED, count=COUNT, more=more)})
    first, first_files = Artifact.load(model_copy).manifest.manifest_sha256, content(model_copy)
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        found = wait_turn(daemon)
        wrong = [number for number, defect in enumerate(DEFECTS) if not defect and found[number][0] == "reject"]
        missed = [number for number, defect in enumerate(DEFECTS) if defect and found[number][0] == "ok"]
        stopped = [number for number, defect in enumerate(DEFECTS) if defect and found[number][0] == "reject"]
        assert len(wrong) >= 2 and missed and stopped, found
        worst = DEFECTS.index("stain")
        with opened_page(browser, str(daemon.api.base_url), **SIZES[size]) as page:
            expect(page.locator("#live-image")).to_be_visible()
            shot(page, shots, "1-live")
            for number in wrong:
                mark(page, found[number][1], "This part was good", "Mark as false reject")
            look_at(page, found[wrong[0]][1], "reject")
            shot(page, shots, "2-false-reject")
            mark_missed(page, daemon, missed[0], shots)
            mark(page, found[worst][1], "This part was bad", "Mark as bad")
            page.get_by_role("link", name="Teach").click()
            expect(page.locator("#teach-note")).to_have_text(f"Marked good: {len(wrong)}, bad: 2")
            shot(page, shots, "4-chosen")
            lesson = teach(page, daemon)
            assert lesson["state"] == "ready", lesson
            assert content(model_copy) == first_files  # the model in service is as it was
            bad = {
                part["verdict"]: part for part in lesson["report"]["after"]["fp32"]["parts"] if part["role"] == "bad"
            }
            assert bad[found[worst][1]]["decision"] == "reject"
            expect(page.locator("#lesson")).to_contain_text("Good images that the limit comes from")
            shot(page, shots, "5-compared")
            page.get_by_role("button", name="Accept").scroll_into_view_if_needed()
            shot(page, shots, "6-accept")
            page.get_by_role("button", name="Accept").click()
            say_who(page, "Accept")
            assert daemon.pipeline()["model_sha256"] == Artifact.load(model_copy).manifest.manifest_sha256 != first
            again = wait_turn(daemon)
            taught = {
                part["verdict"] for part in lesson["report"]["after"]["fp32"]["parts"] if part["role"] == "taught"
            }
            passing = [number for number in wrong if found[number][1] in taught]
            assert passing and all(again[number][0] != "reject" for number in passing)
            assert again[worst][0] == "reject"
            look_at(page, again[passing[0]][1], again[passing[0]][0])
            shot(page, shots, "7-passes")

            page.get_by_role("link", name="Teach").click()
            page.get_by_role("button", name="Roll back the model").click()
            expect(page.get_by_role("dialog")).to_contain_text("that it let pass: 1 of 2 that it judged")
            shot(page, shots, "8-roll-back")
            say_who(page, "Roll back")
            assert daemon.pipeline()["model_sha256"] == first
            assert content(model_copy) == first_files and len(earlier_versions(model_copy)) == 1
            rejected = wait_turn(daemon)[passing[0]]
            look_at(page, rejected[1], "reject")
            shot(page, shots, "9-rolled-back")
            actions = [row["action"] for row in daemon.api.get("/api/audit").json()]
            assert actions[:4] == ["roll back model", "swap model", "accept lesson", "teach"]
        daemon.stop()
    check_reopened(tmp_path, site, first)


def check_reopened(folder: Path, site: dict[str, Any], sha256: str) -> None:
    """After a restart the model judges that was rolled back to."""
    with started(folder, site) as daemon:
        daemon.wait_state("running")
        assert daemon.pipeline()["model_sha256"] == sha256


@pytest.mark.slow
def test_a_missed_defect_that_is_found_once_may_not_be_taught_away(browser, model_copy, tmp_path):
    """A second look-alike of a part that is marked bad is offered as good: the lesson is refused, whatever is said."""
    more = f"&repeat=1&defect_rate={RATE}&batch={BATCH}"
    site = make_site(model_copy, cameras={"conveyor": conveyor(2, seed=SEED, count=COUNT, more=more)})
    worst = DEFECTS.index("stain")
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        once, twice = wait_turn(daemon)[worst], wait_turn(daemon)[worst]
        assert once[1] != twice[1] and once[0] == "reject"
        with opened_page(browser, str(daemon.api.base_url)) as page:
            mark(page, once[1], "This part was bad", "Mark as bad")
            mark(page, twice[1], "This part was good", "Mark as false reject")
            lesson = teach(page, daemon)
            assert lesson["state"] in ("refused", "failed")
            expect(page.locator("#lesson")).to_contain_text(re.compile("is bad: which of them is it|would be ok"))
            page.get_by_role("button", name="Discard").click()
            say_who(page, "Discard")
        assert daemon.api.get("/api/lessons").json()["lessons"] == []
        assert [path for path in tmp_path.iterdir() if ".lesson." in path.name] == []
        daemon.stop()


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_half_written_and_a_lesson_that_waits_stays(model_copy, tmp_path):
    more = f"&repeat=1&defect_rate={RATE}&batch={BATCH}"
    site = make_site(model_copy, cameras={"conveyor": conveyor(2, seed=SEED, count=COUNT, more=more)})
    files = content(model_copy)

    def left() -> list[str]:
        return [path.name for path in tmp_path.iterdir() if ".lesson." in path.name]

    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        found = wait_turn(daemon)
        wrong = [id for number, (decision, id) in found.items() if decision == "reject" and not DEFECTS[number]]
        for id in wrong:
            daemon.api.post(f"/api/verdicts/{id}/false-reject", json={"by": "Anna"}).raise_for_status()
        asked = {"pipeline": "a", "verdicts": wrong, "by": "Anna"}
        daemon.api.post("/api/lessons", json=asked).raise_for_status()
        refused = daemon.api.post("/api/lessons", json=asked)
        assert refused.status_code == 409 and "one at a time" in refused.json()["detail"]
        wait_for(left, "the folder of the lesson")
        daemon.process.kill()
        daemon.process.wait()
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        assert daemon.api.get("/api/lessons").json()["lessons"] == []
        wait_until(lambda: left() == [])
        assert content(model_copy) == files and earlier_versions(model_copy) == []
        daemon.api.post("/api/lessons", json=asked).raise_for_status()
        assert wait_lesson(daemon)["state"] == "ready"
        daemon.stop()
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        assert lesson_of(daemon)["state"] == "ready"
        daemon.api.post("/api/lessons/a/accept", json={"by": "Ben"}).raise_for_status()
        assert left() == [] and len(earlier_versions(model_copy)) == 1
        daemon.stop()
