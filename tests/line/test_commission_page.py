"""Commissioning on the page: what is drawn is what the model ignores, and the whole way from a camera to a model."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import HALL, SIZES, opened_page, shot
from daemons import make_site, started
from fake_daemon import FakeDaemon
from http_side import served
from patience import wait_for, wait_until

from edgead.adapt.commission.run import CommissionPlan, commission
from edgead.artifact.folder import Artifact
from edgead.dataset.places import read_ignored, read_region

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect
LEARNING_MS = 900_000  # at the lowest priority, on cores that others use


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    daemon.judge(0, 0.1)
    return daemon


def begin(page, name: str = "Anna") -> None:
    page.get_by_role("link", name="Commission").click()
    page.get_by_role("button", name="Begin a model").click()
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.locator("#commission-board")).to_have_attribute("viewBox", re.compile(r"\d"))


def at(page, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the camera's frame lies on the screen."""
    page.locator("#commission-board").scroll_into_view_if_needed()
    box = page.locator("#commission-board").bounding_box()
    width, height = (int(one) for one in page.locator("#commission-board").get_attribute("viewBox").split()[2:])
    return box["x"] + x * box["width"] / width, box["y"] + y * box["height"] / height


def drag(page, begin: tuple[int, int], end: tuple[int, int]) -> None:
    page.mouse.move(*at(page, *begin))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=4)
    page.mouse.up()


def test_places_are_drawn_by_mouse_keyboard_and_numbers_and_kept(browser, daemon):
    draft = daemon.commissioning.draft
    with served(daemon) as url, opened_page(browser, url, **HALL) as page:
        begin(page)
        page.get_by_role("button", name="Ignore a rectangle").click()
        page.mouse.click(*at(page, 60, 50))  # a click draws nothing
        expect(page.locator("#commission-shapes li")).to_have_count(1)
        page.get_by_role("button", name="Region: rectangle").click()
        expect(page.locator("#commission-shapes li")).to_have_count(1)  # what was only begun has gone
        drag(page, (20, 10), (120, 90))
        wait_until(lambda: draft("conveyor")["region"] not in (None, (40, 30, 80, 60)))
        x, y, width, height = draft("conveyor")["region"]
        assert max(abs(x - 20), abs(y - 10), abs(width - 100), abs(height - 80)) <= 1
        page.get_by_role("button", name=re.compile("^Corner 1 at")).focus()
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("ArrowUp")
        wait_until(lambda: draft("conveyor")["region"] == (x + 10, y - 1, width - 10, height + 1))
        page.get_by_role("button", name="Ignore a polygon").click()
        for corner in [(30, 20), (60, 20), (30, 60)]:
            page.mouse.click(*at(page, *corner))
        page.get_by_role("button", name="Done").click()
        wait_until(lambda: len(draft("conveyor")["ignored"]) == 1 and len(draft("conveyor")["ignored"][0]) == 6)
        page.get_by_label("Ignored place 1: x, y of each corner").fill("30,20, 61,20, 30,60")
        page.keyboard.press("Enter")
        wait_until(lambda: draft("conveyor")["ignored"] == ((30, 20, 61, 20, 30, 60),))
        page.reload()
        expect(page.locator("#commission-shapes li")).to_have_count(2)
        page.get_by_role("button", name="Reset").click()
        wait_until(lambda: draft("conveyor")["region"] is None and draft("conveyor")["ignored"] == ())
    Path(daemon.site.store.folder, "commission", "conveyor", "draft.json").unlink()


def test_shapes_stay_within_the_image(browser, daemon):
    said = """async () => { const s = await import("/page/shapes.js"), size = [100, 80];
        return [s.between([150, -5], [90, 20], size), s.moved([10, 10, 50, 40], [1000, -1000], size),
            s.moved([0, 0, 50, 0, 50, 50], [1000, 1000], size), s.withCorner([10, 10, 20, 20], 0, [60, 70], size),
            s.withNewCorner([0, 0, 40, 0, 0, 40], 2), s.withoutCorner([0, 0, 40, 0, 0, 40], 1)]; }"""
    with served(daemon) as url, opened_page(browser, url) as page:
        assert page.evaluate(said) == [
            [90, 0, 10, 20],
            [50, 0, 50, 40],
            [49, 29, 99, 29, 99, 79],
            [30, 30, 30, 40],
            [0, 0, 40, 0, 0, 40, 0, 20],
            [0, 0, 40, 0, 0, 40],
        ]


def test_a_region_drawn_as_a_polygon_is_its_rectangle_and_all_outside_ignored():
    size, corners = (60, 80), [10, 5, 70, 20, 30, 50]
    roi, outside = read_region(corners, size)
    assert outside is not None and roi == (10, 5, 61, 46)
    ignored = read_ignored(["0,0,5,5", outside], size, "a part")
    drawn = np.zeros(size, np.uint8)
    cv2.fillPoly(drawn, [np.array(polygon, np.int32) for polygon in ignored.polygons], 1)
    inside = cv2.fillPoly(np.zeros(size, np.uint8), [np.array(corners, np.int32).reshape(-1, 2)], 1)
    np.testing.assert_array_equal(drawn, 1 - inside)
    assert read_region([1, 2, 30, 40], size) == ((1, 2, 30, 40), None)


@pytest.fixture(scope="module")
def first_model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("first") / "model"
    commission("synthetic:?seed=5", path, CommissionPlan(20))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_the_whole_way_from_the_camera_to_the_model_in_service(browser, first_model, tmp_path, size):
    shutil.copytree(first_model, tmp_path / "models" / "first")
    taken = f"conveyor-{datetime.now(timezone.utc):%Y-%m-%d}"
    shutil.copytree(first_model, tmp_path / "models" / taken)
    camera = {"uri": "synthetic:?rate=3&seed=9&count=100000&defect_rate=0"}
    pipeline = {"camera": "conveyor", "model": "models/first", "budget_ms": 60_000}
    site = make_site(tmp_path / "models" / "first", cameras={"conveyor": camera}, pipelines={"a": pipeline})
    shots = tmp_path / "shots"
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        with opened_page(browser, str(daemon.api.base_url), **SIZES[size]) as page:
            begin(page)
            shot(page, shots, "1-begun")
            page.get_by_role("button", name="Region: rectangle").click()
            drag(page, (40, 40), (440, 430))
            page.get_by_role("button", name="Ignore a polygon").click()
            for corner in [(60, 60), (130, 60), (60, 130)]:
                page.mouse.click(*at(page, *corner))
            page.get_by_role("button", name="Done").click()
            shot(page, shots, "2-drawn")
            page.get_by_label("Wanted").fill("24")
            page.get_by_label("Wanted").press("Enter")
            page.get_by_role("button", name="Take this one").click()
            page.get_by_role("button", name="Collect", exact=True).click()
            expect(page.locator("#commission-count")).to_have_text(re.compile(r"^\d\d of 24"), timeout=LEARNING_MS)
            shot(page, shots, "3-collecting")
            page.reload()  # the draft does not lie in the page
            expect(page.locator("#commission-count")).to_have_text("24 of 24", timeout=LEARNING_MS)
            page.locator("#commission-parts .take-out").first.click()
            expect(page.locator("#commission-count")).to_have_text("23 of 24")
            page.get_by_role("button", name="Learn", exact=True).click()
            expect(page.locator("#commission-stage")).to_contain_text("/", timeout=LEARNING_MS)
            shot(page, shots, "4-learning")
            judged = daemon.pipeline()["judged"]
            expect(page.locator("#commission-result")).to_be_visible(timeout=LEARNING_MS)
            assert daemon.pipeline()["judged"] > judged  # the line went on
            expect(page.locator("#commission-words")).to_contain_text(
                "About 1 good part in 5 will be rejected (about 20 %, from 23"
            )
            page.locator("#commission-result").scroll_into_view_if_needed()
            shot(page, shots, "5-result")
            page.get_by_role("button", name="Put it into service").click()
            expect(page.get_by_label("Name of the model")).to_have_value(f"{taken}-2")
            page.get_by_label("Name of the model").fill("second")
            shot(page, shots, "6-going")
            page.get_by_role("button", name="Test and change").click()
            expect(page.locator("#commission-yaml")).to_contain_text("models/second", timeout=LEARNING_MS)
            page.locator("#commission-yaml").scroll_into_view_if_needed()
            shot(page, shots, "7-gone")
        assert daemon.pipeline()["model"].endswith("models/second")
        changes = daemon.api.get("/api/audit").json()
        assert changes[0]["action"] == "swap model" and changes[0]["by"].startswith("Anna (")
        daemon.wait_judged(3)
        spec = Artifact.load(tmp_path / "models" / "second").manifest.preprocessing
        drawn = daemon.api.get("/api/commission/conveyor").json()
        assert list(spec.roi) == drawn["region"]
        texts = [",".join(map(str, numbers)) for numbers in drawn["ignored"]]
        assert spec.ignored == read_ignored(texts, (480, 480), "a part")
        assert daemon.api.post("/api/pipelines/a/roll-back", json={"by": "Anna"}).json()["model"].endswith("first")
        daemon.stop()
    with started(tmp_path, site) as daemon:  # the draft outlives the daemon
        again = wait_for(lambda: daemon.api.get("/api/commission/conveyor").json(), "the draft")
        assert len(again["images"]) == 23 and again["state"] == "learnt" and not again["stale"]
        assert daemon.api.post("/api/commission/conveyor/discard", json={"by": "Anna"}).status_code == 200
        assert not (tmp_path / "evidence" / "commission" / "conveyor").exists()
        daemon.stop()
