"""Kinds that begin on the page, in a real browser: rejects sorted, moved between heaps, named, and saved in a model."""

from __future__ import annotations

import pytest
from accessibility import grave_findings
from browser import SIZES, opened_page, shot
from http_side import daemon_with_store, served
from patience import wait_until
from test_http_heaps import daemon_with_rejects

from edgead.artifact.folder import Artifact

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect


@pytest.fixture
def daemon(tmp_path):
    """A daemon with seven rejects in three heaps, of four, two and one."""
    with daemon_with_store(tmp_path, before=0, after=0) as daemon:
        ids = [daemon.judge(number, 0.9) for number in range(7)]
        wait_until(lambda: daemon.store.status()["images_written"] == 14)
        heaps = [[{"verdict": id, "image": "heat.jpg"} for id in some] for some in (ids[:4], ids[4:6], ids[6:])]
        daemon.heaps.found = {"state": "ready", "heaps": heaps, "clear": [True, False, None], "left_out": 2}
        yield daemon


def heap(page, number):
    return page.locator(".heap").nth(number - 1)


def sizes_of(page):
    return [page.locator(".heap").nth(n).locator("img").count() for n in range(page.locator(".heap").count())]


def test_images_are_moved_heaps_merged_and_split_by_keyboard_and_named(browser, daemon):
    heaps = daemon.heaps.found["heaps"]
    first, second, third = ([reject["verdict"] for reject in one] for one in heaps)
    with served(daemon) as url, opened_page(browser, f"{url}/#kinds") as page:
        expect(page.locator("#heaps-note")).to_contain_text("they cannot be read: 2.")
        assert sizes_of(page) == [4, 2, 1]
        expect(heap(page, 1).locator(".muted")).to_have_text("clear: half of these rejects make this heap again")
        expect(heap(page, 2).locator(".muted")).to_contain_text("doubtful: a sort of half of these rejects")
        expect(heap(page, 3).locator(".muted")).to_have_count(0)
        expect(heap(page, 1).get_by_role("button", name="Put the chosen here")).to_be_disabled()
        heap(page, 2).get_by_role("button", name="Choose all").press("Enter")
        heap(page, 1).get_by_label("Kind of heap 1").fill("scratch")
        heap(page, 1).get_by_role("button", name="Put the chosen here").press("Enter")  # merged
        assert sizes_of(page) == [6, 1]
        expect(page.locator(".heap .muted")).to_have_count(0)  # these heaps are a person's
        expect(heap(page, 1)).to_be_focused()
        heap(page, 1).get_by_label("image 1", exact=True).press("Space")
        page.get_by_role("button", name="Put the chosen into a new heap").press("Enter")  # split
        assert sizes_of(page) == [5, 1, 1]
        expect(heap(page, 1).get_by_label("Kind of heap 1")).to_have_value("scratch")
        page.get_by_role("button", name="Refresh").click()
        assert sizes_of(page) == [5, 1, 1]  # what a person has done stays
        heap(page, 3).get_by_label("Kind of heap 3").fill(" hole ")
        page.get_by_role("button", name="Save the names").click()
        expect(page.locator("dialog")).to_contain_text("scratch, hole, other. It is tested")
        page.get_by_label("Your name").fill("Anna")
        page.locator("dialog").get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("dialog")).to_have_count(0)
    # Without the kind "other", rejects like those of the nameless heap would get another one's name.
    named = {"scratch": [*first[1:], *second], "hole": first[:1], "other": third}
    assert daemon.heaps.calls == [("name", "front", named, "Anna (127.0.0.1)")]


def test_heaps_are_read_at_every_size_and_a_failure_is_said(browser, daemon, tmp_path):
    with served(daemon) as url:
        for name, size in SIZES.items():
            with opened_page(browser, f"{url}/#kinds", **size) as page:
                expect(page.locator(".heap")).to_have_count(3)
                heap(page, 1).get_by_label("image 2", exact=True).check()
                heap(page, 1).get_by_label("Kind of heap 1").fill("scratch")
                page.evaluate("scrollTo(0, 0)")
                shot(page, tmp_path / "shots", name)
                assert grave_findings(page) == []
                page.get_by_role("button", name="Save the names").click()
                expect(page.locator("dialog")).to_be_visible()
        daemon.heaps.found = {"state": "running", "images": 57, "done": 12}
        with opened_page(browser, f"{url}/#kinds") as page:
            expect(page.locator("#heaps-note")).to_have_text("Rejects that are sorted, beside the line: 12 of 57")
            daemon.heaps.found["done"] = 13
            expect(page.locator("#heaps-note")).to_contain_text("13 of 57")
        daemon.heaps.found = {"state": "failed", "reason": "nothing is rejected now", "heaps": []}
        with opened_page(browser, f"{url}/#kinds", locale="de-DE") as page:
            expect(page.locator("#heaps-problem")).to_have_text("nothing is rejected now")
            expect(page.get_by_role("button", name="Letzten Ausschuss sortieren")).to_be_enabled()
            expect(page.get_by_role("button", name="Namen speichern")).to_be_hidden()
            page.get_by_role("button", name="Verwerfen").first.click()
    assert daemon.heaps.calls[-1] == ("discard", "front")


def test_the_last_rejects_become_kinds_of_the_model(browser, tmp_path, trained_model, line_data):
    with daemon_with_rejects(tmp_path, trained_model, line_data) as (daemon, _), served(daemon) as url:
        with opened_page(browser, f"{url}/#kinds") as page:
            expect(page.locator("#kinds-unknown")).to_be_visible()
            page.get_by_role("button", name="Sort the last rejects").click()
            expect(page.locator("#heaps-note")).to_contain_text("Rejects that are sorted, beside the line: ")
            page.locator(".heap").first.wait_for(timeout=300_000)
            before = len(sizes_of(page))
            heap(page, 1).get_by_label("Kind of heap 1").fill("scratch")
            heap(page, 1).get_by_label("image 1", exact=True).check()
            page.get_by_role("button", name="Put the chosen into a new heap").click()
            heap(page, before + 1).get_by_label(f"Kind of heap {before + 1}").fill("dent")
            page.get_by_role("button", name="Save the names").click()
            page.get_by_label("Your name").fill("Anna")
            page.locator("dialog").get_by_role("button", name="Save", exact=True).click()
            expect(page.locator("#toast")).to_have_text("The model names these kinds now")
            expect(page.locator("#heaps")).to_be_hidden()
            expect(page.locator("#kinds-unknown")).to_be_hidden()
            page.get_by_role("link", name="Changes").click()
            expect(page.locator("#audit tr").first).to_contain_text(
                "Anna taught the model to name scratch, dent, other"
            )
        kinds = Artifact.load(daemon.pipelines["front"].model).manifest.kinds
        assert kinds.names == ["scratch", "dent", "other"] and kinds.counts()["dent"] == 1
