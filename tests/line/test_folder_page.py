"""A folder of images of good parts on the page: dropped, looked through, and the whole way to a model in service."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from accessibility import grave_findings
from browser import HALL, PANEL, PHONE, SIZES, opened_page, shot
from daemons import START, RunningDaemon
from data_sets import two_products
from fake_daemon import FakeDaemon
from fakes import make_verdict
from http_side import served
from patience import wait_for, wait_until
from test_commission_page import LEARNING_MS
from test_draft import part
from test_http_commission import png

from edgead.images.files import IMAGE_SUFFIXES, ImageError, decode_image, write_image
from edgead.line.daemon.commission.draft import DraftSettings
from edgead.line.daemon.commission.draft_work import DraftWork, LearningStep
from edgead.synthetic.line import conveyor

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
expect = sync_api.expect
PARTS = 60
# Letters as wide as those of Debian 13's fonts.
WIDER = """() => { const style = new CSSStyleSheet(); style.replaceSync("* { letter-spacing: .045em }");
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style]; }"""


def in_sight(page, id: str) -> None:
    """An element is on the screen as it is, and nothing lies over it."""
    said = """id => { const e = document.getElementById(id), box = e.getBoundingClientRect();
        const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        return box.bottom <= innerHeight && (e === there || e.contains(there)); }"""
    wait_until(lambda: page.evaluate(said, id))


def drop(page, path: Path, x: float = 300, y: float = 400) -> None:
    """Drop a file or a folder of this computer onto the page, as a hand does."""
    session = page.context.new_cdp_session(page)
    carried = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for what in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": what, "x": x, "y": y, "data": carried})
    session.detach()


def give_name(page) -> None:
    page.get_by_label("Your name").fill("Anna")
    page.get_by_role("button", name="Begin", exact=True).click()


@pytest.fixture
def parts_folder(tmp_path) -> Path:
    """A set in the layout of MVTec: 22 good images of two sizes, one of them twice, and what is none."""
    folder = tmp_path / "caps" / "train" / "good"
    for number in range(21):
        write_image(folder / f"part {number}.png", part(number))
    write_image(folder / "part 21.bmp", part(3))
    write_image(folder / "part 22.png", part(3, (20, 20)))
    (folder / "part 23.jpg").write_bytes(b"\xff\xd8 broken")
    (folder / "notes.txt").write_text("none")
    write_image(tmp_path / "caps" / "test" / "bad" / "bad.png", part(99))
    return tmp_path / "caps"


def test_a_folder_is_dropped_and_looked_through_by_keys(browser, tmp_path, parts_folder):
    daemon = FakeDaemon(tmp_path)
    draft = daemon.commissioning.draft
    with served(daemon) as url, opened_page(browser, f"{url}/#commission", expected=("422",), **PANEL) as page:
        expect(page.locator("#commission-choose")).to_be_enabled()
        in_sight(page, "commission-choose")
        drop(page, parts_folder)
        give_name(page)
        expect(page.locator("#commission-count")).to_have_text("22 of 60")
        expect(page.locator("#commission-refused summary")).to_have_text("Files left out: 3")
        page.locator("#commission-refused summary").click()
        words = page.locator("#commission-refused li").all_inner_texts()
        assert [text.partition(":")[0] for text in words] == ["notes.txt", "part 21.bmp", "part 23.jpg"]
        assert "is no image" in words[0] and "the same as part 3.png" in words[1] and "truncated JPEG" in words[2]
        page.locator("#commission-refused summary").click()
        of_another_size = page.locator("#commission-sizes")
        expect(of_another_size).to_contain_text("1 of 22 images have another size than the others.")
        expect(of_another_size).to_contain_text("take them out before you learn: part 22.png")
        expect(page.locator("#commission-parts .number").first).to_have_text("part 22.png")
        expect(page.locator("#commission-learn")).to_be_enabled()
        page.evaluate("scrollTo(0, 0)")  # the click on the list may have scrolled
        in_sight(page, "commission-learn")
        page.evaluate(WIDER)
        in_sight(page, "commission-learn")

        wall = page.locator("#commission-parts .take-out")
        expect(wall).to_have_count(22)
        assert page.locator("#commission-parts [tabindex='0']").count() == 1  # one stop of the Tab key
        wall.first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Delete")
        wait_until(lambda: draft("conveyor")["left_out"] == ["000021.png"])
        expect(wall.nth(1)).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        wait_until(lambda: draft("conveyor")["left_out"] == ["000021.png", "000001.png"])
        page.keyboard.press("u")
        wait_until(lambda: draft("conveyor")["left_out"] == ["000021.png"])
        wall.nth(1).click()  # once more: it is a part again
        wait_until(lambda: draft("conveyor")["left_out"] == [])
        assert grave_findings(page) == []
        drop(page, parts_folder / "train")
        expect(page.locator("#toast")).to_contain_text("24 lie in folders below it: choose one of those")
    said = [change["after"] for change in daemon.store.changes if isinstance(change["after"], str)]
    assert said == ["caps: 24 images for camera conveyor"]


@pytest.fixture
def learnt(tmp_path) -> FakeDaemon:
    """A daemon with a draft of 20 files, and a result: the last one is odd, the others' scores rise."""
    daemon = FakeDaemon(tmp_path)
    desk = daemon.commissioning
    desk.begin("conveyor", "Anna")
    desk.begin_sending("conveyor", "caps", 20, "Anna")
    names = [desk.send("conveyor", png(number), f"cap {number}.png")["image"] for number in range(20)]
    draft = desk.work("conveyor")._draft
    parts = []
    for number, name in enumerate(names):
        write_image(draft.folder / "learnt-1" / "maps" / f"{Path(name).stem}.jpg", part(number))
        scores = {"score": number, "scaled_score": 5.0 * number}
        parts.append({"name": name, **scores, "odd": number == 19, "learnt": number != 19})
    counts = {"learnt": 19, "calibrated": 20, "false_reject_rate": 0.2, "review": 87.0, "frame_ms": 9.0, "blurred": []}
    (draft.folder / "learnt-1" / "result.json").write_text(json.dumps({**counts, "parts": parts[::-1]}))
    draft.keep_result("learnt-1", draft.source)
    return daemon


@pytest.mark.parametrize(
    ("locale", "said", "out"),
    [
        ("en", "was one of them bad? Take it out and learn again", "Take cap 17.png out"),
        ("de", "War eines davon schlecht? Herausnehmen und neu lernen", "cap 17.png herausnehmen"),
    ],
)
def test_what_lies_nearest_to_the_limit_is_to_be_looked_at_before_it_goes(browser, learnt, locale, said, out):
    with served(learnt) as url, opened_page(browser, f"{url}/#commission", locale=locale, **HALL) as page:
        expect(page.locator("#commission-look")).to_contain_text(said)
        expect(page.locator("#commission-words")).to_contain_text(" 87")  # above it a part goes to review
        expect(page.locator("#commission-look")).to_be_visible()
        assert page.locator("#commission-look ~ #commission-usual").count() == 1
        assert page.locator("#commission-found:has(#commission-look) ~ .go #commission-go").count() == 1
        tiles = page.locator("#commission-usual li")
        expect(tiles).to_have_count(8)
        looked_at = page.locator("#commission-usual li[data-look]").all_inner_texts()
        assert looked_at == tiles.all_inner_texts()[:5]
        for number, text in zip((18, 17, 16, 15, 14), looked_at, strict=True):
            assert f"cap {number}.png" in text
        expect(page.locator("#commission-odd li")).to_contain_text("cap 19.png")
        page.get_by_role("button", name=out, exact=True).click()
        wait_until(lambda: learnt.commissioning.draft("conveyor")["left_out"] == ["000018.png"])
        assert learnt.commissioning.work("conveyor").map_of("000018.png") is not None, "the page still shows it"
        expect(page.locator("#commission-stale")).to_be_visible()


@pytest.fixture
def tried(learnt, tmp_path, monkeypatch) -> dict[str, Path]:
    """Files to try on the daemon: scores 50 and 95 of bad ones, 80 of a good one; one was learnt."""
    scores = {"scratch": 0.9, "stain": 0.3, "dent": 0.48, "new": 0.2}
    files = {name: tmp_path / f"{name}.png" for name in (*scores, "known")}
    for number, file in enumerate(files.values()):
        write_image(file, part(number + 50, (120, 160)))
    by_bytes = {files[name].read_bytes(): (name, score) for name, score in scores.items()}

    def try_image(self: DraftWork, data: bytes):
        if data not in by_bytes:
            raise ImageError("the model has learnt it")
        name, score = by_bytes[data]
        verdict = replace(make_verdict(score), typical_score=0.1, review_threshold=0.4)
        return decode_image(data), verdict

    monkeypatch.setattr(DraftWork, "try_image", try_image)
    return files


@pytest.mark.parametrize(
    ("size", "locale", "words"),
    [
        ("hall", "en-GB", ["1 of 3 bad parts would pass.", "Bad parts that would go to review: 1"]),
        ("panel", "de-DE", ["1 von 3 schlechten Teilen kämen durch.", "Schlechte Teile, die zur Nachprüfung kämen: 1"]),
        ("phone", "en-GB", ["1 of 3 bad parts would pass.", "Bad parts that would go to review: 1"]),
    ],
)
def test_bad_and_good_parts_are_tried_before_the_model_goes(browser, learnt, tried, tmp_path, size, locale, words):
    with (
        served(learnt) as url,
        opened_page(browser, f"{url}/#commission", expected=("422",), locale=locale, **SIZES[size]) as page,
    ):
        bad, tiles = page.locator("#trial-bad-files"), page.locator("#trial-parts li")
        expect(page.locator("#trial-bad")).to_be_visible()
        bad.set_input_files([tried["scratch"], tried["stain"], tried["dent"], tried["known"]])
        page.locator("#trial-good-files").set_input_files(tried["new"])
        expect(tiles).to_have_count(4)
        expect(page.locator("#trial-words li").nth(1)).to_have_text(words[1])
        said = page.locator("#trial-words li").all_inner_texts()
        assert said[0] == words[0] and len(said) == 8  # then the good one, the file left out, and four that help
        names = ["stain.png", "dent.png", "scratch.png", "new.png"]
        assert [text.rpartition("· ")[2] for text in tiles.all_inner_texts()] == names
        assert page.locator("#trial-parts li[data-wrong]").count() == 1
        lefts = [dot.evaluate("dot => parseFloat(dot.style.left)") for dot in page.locator(".trial-line img").all()]
        assert lefts == pytest.approx([50 / 1.5, 95 / 1.5, 100, 25 / 1.5], abs=0.01)
        expect(page.locator("#trial-refused li")).to_contain_text("known.png: the model has learnt it")

        look = tiles.first.locator("button")
        image = look.locator("img")
        before = image.get_attribute("src")
        look.focus()
        page.keyboard.press("Enter")
        expect(look).to_have_attribute("aria-pressed", "true")
        assert image.get_attribute("src") != before
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 160
        page.keyboard.press("Space")
        assert image.get_attribute("src") == before
        assert grave_findings(page) == []
        page.locator("#commission-trial").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('commission-trial').scrollIntoView()")
        shot(page, tmp_path / "shots", f"trial-{size}")
        if size == "hall":
            # Beside both heaps it is a bad part: nothing that is dropped here is learnt.
            for where in ("[data-heap=good]", "#trial-words"):
                page.locator(where).scroll_into_view_if_needed()
                box = page.locator(where).bounding_box()
                drop(page, tried["stain"], box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            expect(tiles).to_have_count(6)
            assert page.locator("#trial-parts li[data-wrong]").count() == 2
            desk = learnt.commissioning
            folder = desk.work("conveyor")._draft.folder / "learnt-1" / "result.json"
            with page.expect_response(lambda answer: answer.url.endswith("/try") and answer.ok):
                folder.write_text(folder.read_text().replace('"frame_ms": 9.0', '"frame_ms": 8.0'))  # learnt again
            expect(tiles).to_have_count(6)
            desk.discard("conveyor", "Anna")
            desk.begin("conveyor", "Anna")
            wait_until(lambda: tiles.count() == 0)
    assert learnt.store.rows == []
    assert [change["action"] for change in learnt.store.changes if change["action"] != "discard draft"] == [
        "send images"
    ]


@pytest.mark.parametrize(
    ("locale", "said"),
    [("en-GB", "8 of 28 images look like another product"), ("de-DE", "8 von 28 Bildern sehen nach einem anderen")],
)
def test_two_products_are_asked_about_before_anything_is_learnt(browser, tmp_path, locale, said):
    daemon = FakeDaemon(tmp_path)
    draft = daemon.commissioning.draft
    mixed = sorted(two_products(tmp_path / "mixed").iterdir())

    def begin(prefix=""):
        daemon.commissioning.begin("conveyor", "Anna")
        work = daemon.commissioning.work("conveyor")
        work.change(DraftSettings(preset="fast"), 0, "Anna", nullcontext())
        work.begin_sending("Anna")
        for path in mixed:
            work.send(path.read_bytes(), prefix + path.name)
        return work

    work = begin()
    with served(daemon) as url, opened_page(browser, f"{url}/#commission", locale=locale, **HALL) as page:
        page.locator("#commission-learn").click()
        expect(page.locator("#commission-two-words")).to_contain_text(said, timeout=60_000)
        expect(page.locator("#commission-two-few li")).to_have_text(["weave0.png", "weave1.png", "weave2.png"])
        expect(page.locator("#commission-two-many li")).to_have_text(["line00.png", "line01.png", "line02.png"])
        assert draft("conveyor")["state"] == "draft" and draft("conveyor")["result"] is None
        assert not grave_findings(page)
        shot(page, tmp_path / "shots", f"two-products-{locale}")
        asked = []
        work.learn = lambda one_product=False: asked.append(one_product)
        page.locator("#commission-two-one").click()
        wait_until(lambda: asked == [True])
        page.locator("#commission-two-out").click()
        wait_until(lambda: asked == [True, False])
        assert [draft("conveyor")["files"][name] for name in draft("conveyor")["left_out"]] == [
            f"weave{number}.png" for number in range(8)
        ]
        expect(page.locator("#commission-two")).to_be_hidden()
        daemon.commissioning.discard("conveyor", "Anna")
        begin("second ").learn()
        expect(page.locator("#commission-two-few li").first).to_have_text("second weave0.png", timeout=60_000)


@pytest.mark.parametrize(("same", "images"), [(True, 25), (False, 5)])
def test_a_folder_beside_what_was_learnt_is_of_the_same_product_or_begins_a_new_draft(
    browser, learnt, tmp_path, same, images
):
    more = [write_image(tmp_path / "more" / f"part {number}.png", part(number)) for number in range(100, 105)]
    with served(learnt) as url, opened_page(browser, f"{url}/#commission") as page:
        expect(page.locator("#commission-result")).to_be_visible()
        page.locator("#commission-folder").set_input_files(tmp_path / "more")
        dialog = page.locator("dialog")
        expect(dialog).to_contain_text("The draft holds 20 good parts. Two products in one model make its limit too")
        page.get_by_label("Your name").fill("Ben")
        page.get_by_role("button", name="Continue").click()
        expect(dialog.locator(".form-error")).to_have_text("Still missing: These images show")
        shot(page, tmp_path / "shots", "product")
        page.get_by_label("These images show").select_option("same" if same else "other")
        page.get_by_role("button", name="Continue").click()
        expect(dialog).to_have_count(0)
        expect(page.locator("#commission-count")).to_have_text(f"{images} of 60")
        expect(page.locator("#commission-result")).to_be_visible(visible=same)
    assert len(learnt.commissioning.draft("conveyor")["images"]) == images == len(more) + 20 * same
    discarded = [change["by"] for change in learnt.store.changes if change["action"] == "discard draft"]
    assert discarded == ([] if same else ["Ben (127.0.0.1)"])


def test_the_first_step_of_learning_reads_like_no_button(browser, learnt):
    learner = SimpleNamespace(progress=LearningStep(), waits=False, cancel=lambda: None)
    learnt.commissioning.work("conveyor")._learner = learner
    with served(learnt) as url, opened_page(browser, f"{url}/#commission") as page:
        expect(page.locator("#commission-cancel")).to_be_visible()
        expect(page.locator("#commission-stage")).to_have_text("Beginning …")


@pytest.mark.parametrize(("language", "said"), [("en", "Still missing: Your name"), ("de", "Noch leer: Ihr Name")])
def test_a_name_that_is_missing_is_said_in_the_dialog(browser, tmp_path, parts_folder, language, said):
    with (
        served(FakeDaemon(tmp_path)) as url,
        opened_page(browser, f"{url}/#commission", locale=language, **PANEL) as page,
    ):
        expect(page.locator("#commission-choose")).to_be_enabled()
        page.locator("#commission-folder").set_input_files(parts_folder / "train" / "good")
        page.locator("dialog .primary").click()
        expect(page.locator("dialog .form-error")).to_contain_text(said)
        expect(page.locator("dialog input")).to_be_focused()
        assert grave_findings(page) == []
        shot(page, tmp_path / "shots", f"name-{language}")


def test_images_are_chosen_as_train_reads_a_folder(browser, tmp_path):
    said = """async (lists) => { const { goodImages } = await import("/page/folder.js");
        return lists.map((list) => { const files = list.map((path) => ({ path: path.split("/") }));
            try { return goodImages({ files }).images.map(({ path }) => path.join("/")); }
            catch (problem) { return problem.message; } }); }"""
    known = [f"a{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
    many = [f"{number}.png" for number in range(1500)]
    lists = [
        ["b10.png", "b9.PNG", ".hidden.png", "x.txt", "test/bad/c.png"],
        ["train/good/a.png", "a.png", "test/good/b.png"],
        ["d/a.png", "d/b.png"],
        ["x.txt"],
        known,
        many,
    ]
    with served(FakeDaemon(tmp_path)) as url, opened_page(browser, url) as page:
        chosen = page.evaluate(said, lists)
    assert chosen[:2] == [["b9.PNG", "b10.png"], ["train/good/a.png"]]
    assert "2 lie in folders below it" in chosen[2] and "No image lies in this folder" in chosen[3]
    assert sorted(chosen[4]) == sorted(known)
    assert len(chosen[5]) == 600 and chosen[5][0] == "0.png" and int(chosen[5][-1][:-4]) >= 1497


@contextmanager
def studio(folder: Path, state: str = "starting") -> Iterator[RunningDaemon]:
    (folder / "studio.log").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-c", START, "studio", str(folder), "--no-browser"])
    wait_for(lambda: (folder / "studio.log").exists(), "its log")
    daemon = RunningDaemon(folder, process, folder / "studio.log", folder / "store" / "verdicts.sqlite")
    try:
        daemon.wait_state(state, "parts")
        yield daemon
    finally:
        daemon.close()


def kill(daemon: RunningDaemon) -> None:
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()


@pytest.mark.slow
def test_sixty_images_become_a_model_in_service_though_the_daemon_is_killed(browser, tmp_path):
    images = tmp_path / "good"
    for number, (image, _, _) in enumerate(conveyor(3, PARTS + 1, 0.0)):
        write_image(images / f"part {number}.png", image[::2, ::2].copy())
    other = images / "part 60.png"
    other.rename(tmp_path / "other.png")
    folder, shots = tmp_path / "studio", tmp_path / "shots"
    sent: list[str] = []
    with studio(folder) as daemon:
        url = f"{daemon.api.base_url}/#commission"
        daemon.wait_state("starting", "parts", reason="waits for")
        assert daemon.api.get("/api/notices").json()["standing"] == []
        with opened_page(browser, url, expected=("net::ERR_",), **PANEL) as page:
            page.on("request", lambda request: sent.append(request.url) if "/images?file=" in request.url else None)
            expect(page.locator("#commission-choose")).to_be_enabled()
            in_sight(page, "commission-choose")
            shot(page, shots, "1-studio")
            page.locator("#commission-folder").set_input_files(images)
            give_name(page)
            wait_until(lambda: len(daemon.api.get("/api/commission/parts").json()["images"]) >= 10)
            kill(daemon)
            expect(page.locator("#commission-sent")).to_contain_text(re.compile("Waiting for the device: .* of 60"))
            shot(page, shots, "2-killed")
            with studio(folder) as daemon:
                whole_way(page, daemon, shots, sent, images, tmp_path / "other.png")
    with studio(folder, "running") as daemon:  # killed once more: the model stays without a word in the site file
        assert Path(daemon.pipeline("parts")["model"]).name == "caps"


def whole_way(page, daemon: RunningDaemon, shots: Path, sent: list[str], images: Path, other: Path) -> None:
    """From the daemon's second start on: the rest is sent, looked through, learnt, and put in service twice."""
    draft = "/api/commission/parts"
    expect(page.locator("#commission-sending")).to_be_hidden(timeout=LEARNING_MS)
    expect(page.locator("#commission-count")).to_have_text(str(PARTS))
    assert page.locator("#commission-refused").is_hidden()
    first, second = [row["after"] for row in daemon.api.get("/api/audit").json()[::-1]]
    assert first == "good: 60 images for camera parts"
    left = int(re.fullmatch(r"good: (\d+) images for camera parts", second)[1])
    assert 1 <= left <= 50 and len(sent) <= PARTS + 1  # only what was under way came twice
    before = len(sent)
    page.reload()
    expect(page.locator("#commission-count")).to_have_text(str(PARTS))
    page.locator("#commission-folder").set_input_files(images)
    wait_until(lambda: len(daemon.api.get("/api/audit").json()) == 3)
    expect(page.locator("#commission-sending")).to_be_hidden()
    assert len(sent) == before and len(daemon.api.get(draft).json()["images"]) == PARTS
    shot(page, shots, "3-sent")

    page.locator("#commission-parts .take-out").nth(5).click()
    expect(page.locator("#commission-count")).to_have_text(str(PARTS - 1))
    page.get_by_role("button", name="Put the last one back").click()
    expect(page.locator("#commission-count")).to_have_text(str(PARTS))
    page.locator("#commission-wall").scroll_into_view_if_needed()
    shot(page, shots, "4-wall")
    page.evaluate("scrollTo(0, 0)")
    in_sight(page, "commission-learn")
    page.locator("#commission-learn").click()
    expect(page.locator("#commission-stage")).to_contain_text("/", timeout=LEARNING_MS)
    assert page.locator("#commission-progress").is_visible()
    shot(page, shots, "5-learning")
    expect(page.locator("#commission-see")).to_be_visible(timeout=LEARNING_MS)
    in_sight(page, "commission-see")
    shot(page, shots, "6-learnt")
    page.locator("#commission-see").click()
    expect(page.locator("#commission-usual li").first).to_contain_text("score")
    expect(page.locator("#commission-words")).to_contain_text(
        re.compile(r"\d+ of these 60 good parts lie above the limit")
    )
    shot(page, shots, "7-result")
    assert grave_findings(page) == []
    for name in ("unused", "caps", "caps-2"):
        page.locator("#commission-go").click()
        expect(page.locator("dialog .form-error").first).to_contain_text("No bad part was tried")
        page.get_by_label("Name of the model").fill(name)
        if name == "unused":  # nothing judges by the model of a new pipeline yet
            page.locator("#commission-pipeline").select_option("")
        page.get_by_role("button", name="Test and change").click()
        expect(page.locator("dialog")).to_be_hidden(timeout=LEARNING_MS)
        expect(page.locator("#commission-judges")).to_be_visible(visible=name != "unused")
        if name == "unused":
            continue
        expect(page.locator("#commission-gone-words")).to_contain_text("also after a restart")
        expect(page.locator("#commission-gone-folder")).to_contain_text(f"/{name}")
        assert Path(daemon.pipeline("parts")["model"]).name == name
    page.get_by_role("link", name="Live", exact=True).click()
    page.locator("#judged-files").set_input_files(other)
    expect(page.locator("#verdict")).to_have_attribute("data-decision", re.compile("ok|reject"))
    page.get_by_role("link", name="Commission", exact=True).click()
    page.locator("#commission-limit").click()
    expect(page.get_by_text("Good images, each scored as if not learnt")).to_be_visible()
    shot(page, shots, "8-limit")
    page.get_by_role("button", name="Cancel").click()
    page.locator("#commission-back").click()
    page.get_by_role("button", name="Roll back", exact=True).click()
    wait_until(lambda: Path(daemon.pipeline("parts")["model"]).name == "caps")
    page.locator("#commission-gone").scroll_into_view_if_needed()
    shot(page, shots, "9-gone")
    page.set_viewport_size(PHONE["viewport"])
    page.evaluate("scrollTo(0, 0)")
    shot(page, shots, "10-phone")
    assert json.loads((daemon.folder / "store" / "models.json").read_text())["parts"]["model"].endswith("caps")
