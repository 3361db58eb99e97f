"""Images that people hand to the page to be judged: what cannot be read is named, and what was squeezed is said."""

from __future__ import annotations

import re
from dataclasses import replace

import fake_daemon
import numpy as np
import pytest
from accessibility import grave_findings
from browser import PANEL, opened_page, shot
from fake_daemon import FakeDaemon, FakePipeline, make_judged
from http_side import served

from edgead.images.files import decode_image, write_image
from edgead.images.likeness import Size, misfit
from edgead.sources.settings import CameraSection
from edgead.types import Part

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect
GERMAN = {"locale": "de-DE", "color_scheme": "dark", **PANEL}


class Desk(FakePipeline):
    """Judges what is sent, squeezes what has another shape than 160 x 120, and has learnt what is in `learnt_files`."""

    daemon: FakeDaemon
    learnt_files: frozenset[bytes] = frozenset()

    def judge(self, data, part, within_s):
        image = decode_image(data)
        number = len(self.daemon.store.rows)
        self.daemon.judge(number, 0.9, part=Part(part.serial))
        frame, verdict = make_judged(number, 0.9)
        return replace(frame, image=image), verdict

    def squeezed_into(self, frame):
        found = misfit(Size(*frame.image.shape[:2]), [Size(120, 160)], in_pixels=False, stretched=True)
        return found and found.learnt

    def has_learnt(self, frame, data):
        return data in self.learnt_files


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    desk = daemon.pipelines["front"] = Desk(daemon.pipelines["front"].model)
    desk.daemon = daemon
    daemon.site.cameras["conveyor"] = CameraSection(uri="request:")
    return daemon


@pytest.fixture
def files(tmp_path):
    """Two images of the learnt shape and a flat one; a text, and a PNG that was cut off."""
    for name, size in (("a", (120, 160)), ("b", (240, 320)), ("flat", (120, 480))):
        write_image(tmp_path / f"{name}.png", np.full((*size, 3), 90, np.uint8))
    (tmp_path / "notes.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "b.png").read_bytes()[:-20])
    return tmp_path


def judge(page, files, *names):
    expect(page.locator("#connection")).to_have_text(re.compile("Connected|Verbunden"))
    expect(page.locator("#judge-images")).to_be_visible()
    page.locator("#judged-files").set_input_files([files / f"{name}.png" for name in names])


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("size", [(120, 160), (160, 120)])
def test_a_long_name_of_a_file_cuts_nothing_beside_it(browser, daemon, files, monkeypatch, tmp_path, language, size):
    name = "good_bottle_with_a_long_name_that_has_no_place_to_break_000017"
    write_image(files / f"{name}.png", np.full((*size, 3), 90, np.uint8))
    monkeypatch.setattr(fake_daemon, "numbered", lambda number: np.full((*size, 3), 90, np.uint8))
    with served(daemon) as url, opened_page(browser, url, locale=language, **PANEL) as page:
        judge(page, files, name)
        expect(page.locator("#image-of")).to_contain_text(name)
        expect(page.locator("#image-of")).to_have_attribute("title", re.compile(name))
        expect(page.locator("#live-image")).to_be_visible()
        card = page.locator(".live-image").bounding_box()
        for shown in ("#image-of", "#judge-images", "figcaption .switch"):
            box = page.locator(shown).bounding_box()
            assert box["x"] >= card["x"] and box["x"] + box["width"] <= card["x"] + card["width"], shown
            assert box["y"] + box["height"] <= card["y"] + card["height"], shown
        assert page.locator("#live-image").bounding_box()["height"] > 200
        shot(page, tmp_path / "shots", f"long-name-{language}-{size[0]}")


def test_of_a_folder_of_squeezed_images_the_newest_shapes_alone_are_kept(browser, daemon, files):
    names = [f"flat{number}" for number in range(24)]
    for name in names:
        write_image(files / f"{name}.png", np.full((20, 80, 3), 90, np.uint8))
    with served(daemon) as url, opened_page(browser, url) as page:
        page.add_init_script(
            "const set = Map.prototype.set; Map.prototype.set = function (key, value) {"
            "if (value?.shape) window.sent = this; return set.call(this, key, value); };"
        )
        page.reload()
        judge(page, files, *names)
        expect(page.locator("#verdict-note")).to_contain_text("flat23.png")
        expect(page.locator("#verdict-sent")).to_contain_text("80 × 20 pixels")
        assert page.evaluate("window.sent.size") == 20


def test_an_image_of_another_shape_says_so_beside_its_verdict_and_no_other_does(browser, daemon, files):
    with served(daemon) as url, opened_page(browser, url) as page:
        judge(page, files, "a", "b", "flat")
        said = page.locator("#verdict-sent")
        expect(page.locator("#toast")).to_have_text(
            "1 of 3 images have another shape than the model learnt: flat.png first"
        )
        expect(said).to_contain_text("480 × 120 pixels where the model learnt 160 × 120: the image was squeezed")
        judge(page, files, "a")
        expect(page.locator("#verdict-note")).to_contain_text("a.png")
        expect(said).to_be_hidden()


def test_images_that_the_model_has_learnt_are_named(browser, daemon, files, tmp_path):
    daemon.pipelines["front"].learnt_files = frozenset((files / f"{name}.png").read_bytes() for name in ("a", "flat"))
    with served(daemon) as url:
        with opened_page(browser, url) as page:
            judge(page, files, "b", "a")
            expect(page.locator("#toast")).to_have_text(
                "1 of 2 images were learnt by this model, their scores say nothing of new parts: a.png"
            )
            said = page.locator("#verdict-sent")
            expect(said).to_have_text("This image was learnt by this model: its score says nothing of new parts")
            judge(page, files, "b")
            expect(page.locator("#verdict-note")).to_contain_text("b.png")
            expect(said).to_be_hidden()
        with opened_page(browser, url, **GERMAN) as page:
            judge(page, files, "a", "flat")
            words = "2 von 2 Bildern hat dieses Modell gelernt, ihre Werte sagen nichts über neue Teile: a.png"
            expect(page.locator("#toast")).to_contain_text(f"{words}, flat.png")
            expect(page.locator("#verdict-sent")).to_contain_text("Dieses Bild hat dieses Modell gelernt: Sein Wert")
            expect(page.locator("#verdict-sent")).to_contain_text("Das Bild wurde verzerrt")
            shot(page, tmp_path / "shots", "learnt-de")
            assert grave_findings(page) == []


def test_files_that_are_no_image_are_named_with_what_is_taken(browser, daemon, files, tmp_path):
    with served(daemon) as url:
        refused = ("422",)
        with opened_page(browser, url, expected=refused) as page:
            judge(page, files, "notes", "a", "cut")
            reason = "it cannot be read as an image; JPEG, PNG, BMP, TIFF, PNM and WebP files are taken"
            expect(page.locator("#toast")).to_have_text(f"notes.png: {reason}\ncut.png: {reason}")
            expect(page.locator("#verdict-note")).to_contain_text("a.png")
        with opened_page(browser, url, expected=refused, **GERMAN) as page:
            judge(page, files, "flat", "notes")
            expect(page.locator("#toast")).to_contain_text("notes.png: lässt sich nicht als Bild lesen")
            expect(page.locator("#verdict-sent")).to_contain_text("gelernt wurden 160 × 120: Das Bild wurde verzerrt")
            shot(page, tmp_path / "shots", "judged-de")
            assert grave_findings(page) == []
