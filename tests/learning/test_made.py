"""Made defects: what is put onto a part, where, what the folder says of it, and who refuses it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from command_line import run_here

from edgead.components import added
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import check_images, find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.made_sets import FILE, Learnt, read_made
from edgead.errors import SettingsError
from edgead.images.files import ImageError, load_image, write_image
from edgead.synthetic.made_set import Made, Recipe, make_defects
from edgead.synthetic.makers import DefectMaker
from edgead.synthetic.rejects import RealDefect, by_boxes, by_masks, find_rejects

HEIGHT, WIDTH = 60, 80


def part(light: int = 100, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.full((*shape, 3), light, np.uint8)


def marked(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[rows, columns] = True
    return mask


def reject(mask: np.ndarray, *, light: int = 100, of_defect: int = 50) -> np.ndarray:
    image = part(light)
    image[mask] = of_defect
    return image


SPOT = marked(slice(20, 30), slice(30, 44))


@pytest.fixture(scope="module")
def rejects(tmp_path_factory) -> Path:
    """Two kinds of rejects with masks in the MVTec layout: three dark spots, and one bright edge."""
    folder = tmp_path_factory.mktemp("rejects")
    edge = marked(slice(0, 12), slice(70, WIDTH))
    for kind, name, mask, level in (
        ("spot", "a", SPOT, 40),
        ("spot", "b", np.roll(SPOT, 9, axis=0), 55),
        ("spot", "c", np.roll(SPOT, -12, axis=1), 60),
        ("edge", "a", edge, 180),
    ):
        write_image(folder / "test" / kind / f"{name}.png", reject(mask, of_defect=level))
        write_image(folder / "ground_truth" / kind / f"{name}_mask.png", mask.astype(np.uint8) * 255)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    for number in range(6):
        noise = rng.normal(0, 3, (HEIGHT, WIDTH, 3))
        write_image(folder / f"{number}.png", np.clip(part(80 + 8 * number) + noise, 0, 255).astype(np.uint8))
    return sorted(folder.iterdir())


def painted(real, shapes):
    """A plug-in's way: each reject's mask in black, on one part after the other."""
    for (reject, record), path in zip(real, shapes, strict=False):
        image, mask = load_image(path), reject.load()[1]
        image[mask] = 0
        yield Made(image, mask, record.kind, path)


@pytest.fixture(scope="module")
def made(rejects, good, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "made"
    found = by_masks(find_rejects(rejects), rejects / "ground_truth")
    make_defects(good, found, folder, Recipe(method="painted"), make=painted)
    return folder


def test_the_folder_is_what_made_json_says(made, rejects, good):
    said = read_made(made)
    assert Counter(one.kind for one in said.images) == {"edge": 1, "spot": 3}
    for one in said.images:
        image, mask = load_image(made / one.image), load_image(made / one.mask)[:, :, 0] > 0
        unharmed = load_image(made / one.good)
        assert np.array_equal(unharmed, load_image(good[0].parent / Path(one.good).name))
        assert np.array_equal((image != unharmed).any(axis=2), mask) and mask.any()
    of_reject = load_image(made / said.rejects[-1].image)
    assert np.array_equal(of_reject, load_image(rejects / "test" / "spot" / "c.png"))


def test_the_same_seed_draws_the_same_images(good, tmp_path):
    first = make_defects(good, [], tmp_path / "first", Recipe(count=6, seed=3))
    for seed, same in ((3, True), (4, False)):
        again = make_defects(good, [], tmp_path / str(seed), Recipe(count=6, seed=seed))
        names = [(tmp_path / "first" / o.image, tmp_path / str(seed) / o.image) for o in again.images]
        assert len(first.images) == len(names) and all(a.read_bytes() == b.read_bytes() for a, b in names) == same


def test_drawn_defects_need_no_rejects(good, tmp_path):
    said = make_defects(good, [], tmp_path / "made", Recipe(count=12))
    assert set(Counter(one.kind for one in said.images).values()) == {2} and said.rejects == ()
    for one in said.images:
        differs = cv2.absdiff(load_image(tmp_path / "made" / one.image), load_image(tmp_path / "made" / one.good))
        mask = load_image(tmp_path / "made" / one.mask)[:, :, 0] > 0
        assert np.array_equal(mask, differs.max(axis=2) >= 3) and mask.any()
    with pytest.raises(SettingsError, match="name rejects: --from"):
        make_defects(good, [], tmp_path / "other", make=painted)


def test_a_failure_leaves_no_folder_and_a_full_folder_is_left_alone(rejects, good, tmp_path):
    found = by_masks(find_rejects(rejects), rejects / "ground_truth")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_defects(good, found, tmp_path / "made", make=painted, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        make_defects(good, found, tmp_path / "full", make=painted)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
    bad = tmp_path / "full" / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="cannot be read"):
        make_defects([*good, bad], found, tmp_path / "made", make=painted)
    assert not (tmp_path / "made").exists()


def test_rejects_without_a_mark_are_left_out_and_none_is_an_error(rejects, good, tmp_path):
    shutil.copytree(rejects / "ground_truth", tmp_path / "masks")
    (tmp_path / "masks" / "spot" / "b_mask.png").unlink()
    write_image(tmp_path / "masks" / "spot" / "c_mask.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    found = by_masks(find_rejects(rejects), tmp_path / "masks")
    said = make_defects(good, found, tmp_path / "made", make=painted)
    assert [one.image for one in said.rejects] == ["real/test/edge/a.png", "real/test/spot/a.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match=r"none of 4 rejects .*--masks"):
        make_defects(good, by_masks(find_rejects(rejects), tmp_path / "none"), tmp_path / "other", make=painted)
    write_image(tmp_path / "masks" / "spot" / "a_mask.png", np.ones((9, 9), np.uint8))
    with pytest.raises(DatasetError, match="rows, columns"):
        make_defects(good, by_masks(find_rejects(rejects), tmp_path / "masks"), tmp_path / "other", make=painted)


def test_rejects_of_one_name_and_two_formats_keep_their_masks(good, tmp_path):
    for suffix, rows in (("png", slice(4, 8)), ("jpg", slice(20, 30))):
        write_image(tmp_path / f"rejects/dent/a.{suffix}", reject(marked(rows, slice(5, 15))))
    found = [
        RealDefect(
            path, kind, lambda path, _: marked(slice(4, 8 if path.suffix == ".png" else 16), slice(5, 15)), "box"
        )
        for path, kind in find_rejects(tmp_path / "rejects")
    ]
    said = make_defects(good, found, tmp_path / "made", make=painted)
    sizes = {(load_image(tmp_path / "made" / one.mask)[:, :, 0] > 0).sum() for one in said.rejects}
    assert sizes == {40, 120}
    assert {Path(one.image).suffix for one in said.rejects} == {".png", ".jpg"}


def test_boxes_of_verdicts_mark_defects(rejects, good, tmp_path):
    box = {"x": 30, "y": 20, "width": 14, "height": 10, "peak": 3.0}
    lines = [json.dumps({"name": "a.png", "boxes": [box]}), json.dumps({"name": "else.png", "boxes": []})]
    (tmp_path / "verdicts.jsonl").write_text("\n".join(lines) + "\n")
    found = by_boxes([one for one in find_rejects(rejects) if one[1] == "spot"], tmp_path / "verdicts.jsonl")
    _, mask = found[0].load()
    assert np.array_equal(mask, SPOT) and found[1].load()[1] is None
    said = make_defects(good, found, tmp_path / "made", make=painted)
    assert [one.label for one in said.rejects] == ["box"]
    with pytest.raises(DatasetError, match="2 rejects are called a.png"):
        by_boxes(find_rejects(rejects), tmp_path / "verdicts.jsonl")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"name": "a"}', '{"name": "a", "boxes": [{"x": -1, "y": 0, "width": 2, "height": 2}]}', "1"]
)
def test_a_line_that_is_no_verdict_is_named(line, tmp_path):
    (tmp_path / "verdicts.jsonl").write_text('{"name": "a", "boxes": []}\n' + line + "\n")
    with pytest.raises(DatasetError, match="line 2 is no verdict"):
        by_boxes([], tmp_path / "verdicts.jsonl")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda said: said.update(made_version=2), "made_version"),
        (lambda said: said.update(more=1), "more"),
        (lambda said: said["images"][0].update(image="../outside.png"), "leaves the folder"),
        (lambda said: said["images"][0].update(good="test/good/gone.png"), "lacks 1 files"),
        (lambda said: said.update(images=[]), "images"),
    ],
)
def test_a_made_json_that_cannot_be_is_refused(made, tmp_path, change, match):
    shutil.copytree(made, tmp_path / "made")
    said = json.loads((made / FILE).read_text())
    change(said)
    (tmp_path / "made" / FILE).write_text(json.dumps(said))
    with pytest.raises(DatasetError, match=match):
        read_made(tmp_path / "made")


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_a_damaged_made_json_still_marks_the_folder(made, tmp_path, text):
    shutil.copytree(made, tmp_path / "made")
    (tmp_path / "made" / FILE).write_text(text)
    with pytest.raises(DatasetError, match=FILE):
        read_made(tmp_path / "made")
    with pytest.raises(DatasetError, match="never taken as good"):
        find_good_images(tmp_path / "made" / "test" / "good")


def test_made_images_are_nowhere_taken_for_real_ones(made, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(next((made / "test" / "spot").iterdir()))
    for taken in (
        lambda: find_good_images(made / "test" / "good"),
        lambda: find_good_images(made, "test/good"),
        lambda: find_test_images(made),
        lambda: check_images(sorted((made / "test" / "good").iterdir())),
        lambda: check_images(sorted((made / "real" / "test" / "spot").iterdir())),
        lambda: group_images([link], "none"),
        lambda: find_rejects(made),
    ):
        with pytest.raises(DatasetError, match="never taken as good"):
            taken()


def test_every_verb_that_takes_images_refuses_them(made, model_copy, tmp_path):
    pytest.importorskip("torch", reason="some verbs need the workstation's packages")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in model_copy.rglob("*"))
    parts = made / "test" / "good"
    for words in (
        ("train", parts, "-o", tmp_path / "new"),
        ("train", made, "-o", tmp_path / "new", "--normal-dir", "test/good"),
        ("commission", parts, "-o", tmp_path / "new"),
        ("commission", f"{parts}/*.png?rate=50", "-o", tmp_path / "new"),
        ("teach", model_copy, parts, "--yes"),
        ("teach", model_copy, made.parent / "made" / "real" / "test" / "spot", "--yes"),
        ("calibrate", model_copy, parts),
        ("export", model_copy, parts, "--precision", "int8"),
        ("eval", model_copy, made),
        ("report", model_copy, made, "-o", tmp_path / "page.html"),
        ("verify", model_copy, made, "--all"),
        ("demo", "--data", made, "-o", tmp_path / "demo"),
    ):
        ended = run_here(*words)
        assert ended.returncode == 2 and "made defects" in ended.stderr, (words, ended.stderr)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in model_copy.rglob("*")) == before
    assert not any((tmp_path / name).exists() for name in ("new", "page.html"))


def test_images_without_kinds_are_one_kind(rejects, tmp_path):
    found = find_rejects(rejects / "test" / "spot")
    assert [(path.name, kind) for path, kind in found] == [(f"{name}.png", "defect") for name in "abc"]
    with pytest.raises(ImageError, match="no images found"):
        find_rejects(tmp_path)


class Copies(DefectMaker):
    """A method of another package: the part as it is, with the reject's mask."""

    def __init__(self, settings, recipe, rejects):
        if settings.keys() - {"times"}:
            raise SettingsError(f"copies has no setting {', '.join(settings)}")
        self.recipe, self.rejects = recipe, rejects

    @property
    def cost(self) -> str:
        return "copies takes a week"

    def make(self, good, folder, progress):
        def each(real, shapes):
            for reject, record in real:
                yield Made(load_image(good[0]), reject.load()[1], record.kind, good[0])

        return make_defects(good, self.rejects, folder, self.recipe, make=each, learnt=Learnt(weights="w", settings={}))


@pytest.fixture
def plugin(monkeypatch):
    entry = SimpleNamespace(name="copies", value="copies:Copies", load=lambda: Copies, dist=None)
    monkeypatch.setattr(added, "entry_points", lambda group: [entry])


def test_rejects_are_known_by_masks_boxes_or_a_heat_map(plugin, rejects, good, model_copy, tmp_path):
    words = ("defects", good[0].parent, "--method", "copies", "--yes", "--json", "--from")
    ended = run_here(*words, rejects, "-o", tmp_path / "map", "--model", model_copy)
    assert ended.returncode == 0 and read_made(tmp_path / "map").rejects[0].label == "map"
    both = run_here(*words, rejects, "-o", tmp_path / "no", "--model", model_copy, "--boxes", "b")
    assert both.returncode == 2 and "give one of them" in both.stderr
    unknown = run_here(*words, rejects / "test" / "spot", "-o", tmp_path / "no")
    assert unknown.returncode == 2 and "where are the defects" in unknown.stderr
    drawn = run_here("defects", good[0].parent, "--from", rejects / "test" / "spot", "-o", tmp_path / "no")
    assert drawn.returncode == 2 and "leave --from out" in drawn.stderr
    assert not (tmp_path / "no").exists()


def test_records_of_versions_that_moved_real_defects_are_read(made, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    said = json.loads((made / FILE).read_text())
    said["images"][0] |= {"reject": "real/test/edge/a.png", "transform": {"x": 1, "y": 2, "scale": [1.0, 0.5]}}
    (tmp_path / "made" / FILE).write_text(json.dumps(said | {"method": "ratio"}))
    assert read_made(tmp_path / "made").images[0].reject == "real/test/edge/a.png"


def test_a_plug_in_makes_defects_once_somebody_agrees_to_the_cost(plugin, rejects, good, tmp_path):
    words = ("defects", good[0].parent, "--from", rejects, "-o", tmp_path / "made", "--method", "copies", "--json")
    ended = run_here(*words)
    assert ended.returncode == 2 and "copies takes a week; --yes waits for it" in ended.stderr
    ended = run_here(*words, "--yes", "--set", "size=1")
    assert ended.returncode == 2 and "copies has no setting size" in ended.stderr
    assert list(tmp_path.iterdir()) == []
    ended = run_here(*words, "--yes", "--set", "times=1")
    assert ended.returncode == 0 and json.loads(ended.stdout)["kinds"] == {"edge": 1, "spot": 3}
    made = read_made(tmp_path / "made")
    assert made.method == "copies" and made.learnt == Learnt(weights="w", settings={})


def test_a_method_that_is_not_here_is_named_with_its_package(monkeypatch, rejects, good, tmp_path):
    monkeypatch.setattr(added, "entry_points", lambda group: [])
    for method, expected in (
        ("seas", "seas comes with edgead-diffusion: "),
        ("oil", "unknown method 'oil': choose one of drawn"),
        ("paste", "paste was taken out after version 0.1.0: take --method drawn, or seas or anogen"),
    ):
        words = ("defects", good[0].parent, "--from", rejects, "-o", tmp_path / "made", "--method", method)
        ended = run_here(*words, "--set", "steps=1")
        assert ended.returncode == 2 and expected in ended.stderr
    assert list(tmp_path.iterdir()) == []
