"""Folders of images: layouts, bad images, masks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import DatasetError, LabelledImage, check_images, find_good_images, find_test_images
from edgead.dataset.images import Images
from edgead.images.files import ImageError


def draw(path: Path, value: int = 100, shape: tuple[int, ...] = (20, 30, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="FILE NAMES OF BYTES NOT TESTED: names are text on this system")
def test_a_name_may_be_any_bytes(tmp_path):
    draw(tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    (path,) = tmp_path.iterdir()
    usable, problems, digest = check_images([path])
    assert usable == [path] and not problems and len(digest) == 64


def test_mvtec_layout(line_data):
    good = find_good_images(line_data)
    assert [path.name for path in good[:2]] == ["000.jpg", "001.jpg"]
    assert len(good) == 60
    test = find_test_images(line_data)
    assert [image.defect for image in test[:9]] == ["good"] * 8 + ["chipped_edge"]
    defective = test[8]
    assert defective.is_defective and defective.load_mask((480, 480)).any()
    assert not test[0].load_mask((480, 480)).any()
    with pytest.raises(DatasetError, match="rows, columns"):
        defective.load_mask((480, 100))


def test_plain_folder(tmp_path):
    draw(tmp_path / "ok" / "part10.png")
    draw(tmp_path / "ok" / "part2.png")
    assert [path.name for path in find_good_images(tmp_path, "ok")] == ["part2.png", "part10.png"]
    assert len(find_good_images(tmp_path / "ok", ".")) == 2
    assert find_good_images(tmp_path / "ok") == find_good_images(tmp_path, "ok")
    with pytest.raises(DatasetError, match="no folder train/good; it holds ok/. Put the good .* --normal-dir"):
        find_good_images(tmp_path)
    draw(tmp_path / "mixed" / "good" / "1.png")
    draw(tmp_path / "mixed" / "crack" / "2.png")
    with pytest.raises(
        DatasetError, match="name their folder with --normal-dir$"
    ):  # '*' would learn the cracks as good
        find_good_images(tmp_path / "mixed")
    (tmp_path / "ok" / "train").mkdir()
    with pytest.raises(DatasetError, match="no folder train/good"):
        find_good_images(tmp_path / "ok")
    with pytest.raises(DatasetError, match="no such folder"):
        find_good_images(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no images found"):
        find_good_images(tmp_path, "empty")


def test_folders_of_several_products(tmp_path):
    for name in ("nut10/ok/1.png", "nut9/ok/2.png", "nut9/ok/1.png", "nut9/bad/3.png", "read.me/x.png"):
        draw(tmp_path / name)
    found = find_good_images(tmp_path, "*/ok")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "nut9/ok/1.png",
        "nut9/ok/2.png",
        "nut10/ok/1.png",
    ]
    assert find_good_images(tmp_path, str(tmp_path / "nut[0-9]" / "ok")) == found[:2]
    with pytest.raises(DatasetError, match=r"no folder of .* matches \*/good; it holds nut10/, nut9/, read.me/"):
        find_good_images(tmp_path, "*/good")
    with pytest.raises(ImageError, match=r"nut9: no images found .* name one of those"):
        find_good_images(tmp_path, "nut*")
    draw(tmp_path / "good [1]" / "4.png")
    assert [path.name for path in find_good_images(tmp_path, "good [1]")] == ["4.png"]


def test_test_set_needs_both_kinds(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        find_test_images(tmp_path / "missing")
    draw(tmp_path / "parts" / "0.png")
    with pytest.raises(DatasetError, match="is no test set: it needs test/good .* kind of defect; it holds parts/"):
        find_test_images(tmp_path)
    draw(tmp_path / "test" / "good" / "0.png")
    with pytest.raises(DatasetError, match="good and defective images .* found good"):
        find_test_images(tmp_path)
    draw(tmp_path / "test" / "dent" / "0.png")
    assert [image.defect for image in find_test_images(tmp_path)] == ["good", "dent"]
    assert find_test_images(tmp_path)[1].load_mask((20, 30)) is None


def test_a_test_set_may_lie_in_the_folder_itself(tmp_path):
    draw(tmp_path / "good" / "0.png")
    with pytest.raises(DatasetError, match="found good$"):
        find_test_images(tmp_path)
    image = draw(tmp_path / "crack" / "0.png")
    draw(tmp_path / "train" / "good" / "1.png")
    assert [one.defect for one in find_test_images(tmp_path)] == ["good", "crack"]
    mask = draw(tmp_path / "ground_truth" / "crack" / "0_mask.png", 255)
    assert find_test_images(tmp_path)[1] == LabelledImage(image, "crack", mask)


def test_the_folder_test_of_mvtec_is_a_test_set_with_its_masks(tmp_path, monkeypatch):
    draw(tmp_path / "test" / "good" / "0.png")
    image = draw(tmp_path / "test" / "dent" / "0.png")
    mask = draw(tmp_path / "ground_truth" / "dent" / "0_mask.png", 255)
    assert find_test_images(tmp_path / "test") == find_test_images(tmp_path)
    assert find_test_images(tmp_path / "test")[1] == LabelledImage(image, "dent", mask)
    monkeypatch.chdir(tmp_path / "test")
    assert find_test_images(Path("."))[1].mask == mask


def test_bad_images_are_named_and_counted(tmp_path):
    good = draw(tmp_path / "a.png")
    truncated = tmp_path / "b.png"
    truncated.write_bytes(draw(tmp_path / "c.png").read_bytes()[:60])
    paths = [good, truncated, tmp_path / "c.png"]
    with pytest.raises(DatasetError, match="(?s)1 of 3 images cannot be read: .*--skip-bad.*b.png.*truncated"):
        check_images(paths, skip_bad=False)
    with pytest.raises(DatasetError, match="(?s)1 of 3 images cannot be read: remove them:\n.*b.png.*truncated"):
        check_images(paths)  # of a verb that has no such option
    seen = []
    usable, problems, digest = check_images(paths, skip_bad=True, progress=lambda *done: seen.append(done))
    assert usable == [good, tmp_path / "c.png"]
    assert len(problems) == 1 and "b.png" in problems[0]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(DatasetError, match="none of 1 images can be read"):
        check_images([truncated], skip_bad=True)
    draw(good, value=101)
    assert check_images(usable)[2] != digest


def test_a_region_that_sticks_out_of_an_image_is_refused_before_training(tmp_path):
    paths = [draw(tmp_path / "a.png", 7, (20, 30)), draw(tmp_path / "b.png", 9, (20, 25))]
    assert check_images(paths, roi=(5, 0, 20, 20))[0] == paths
    with pytest.raises(DatasetError, match="5,0,25,20 .* ends at 30, 20, but .*b.png has 25 x 20 pixels: choose a reg"):
        check_images(paths, roi=(5, 0, 25, 20))


def test_images_are_preprocessed_when_asked_for(tmp_path):
    paths = [draw(tmp_path / "a.png", 7), draw(tmp_path / "b.png", 9, (5, 5))]
    images = Images(paths, Preprocessing(image_size=(8, 8)))
    assert len(images) == 2
    assert [image.shape for image in images] == [(8, 8, 3)] * 2
    assert images[1].max() == 9
    with pytest.raises(ImageError, match="b.png: the region of interest"):
        Images(paths, Preprocessing(image_size=(8, 8), roi=(0, 0, 10, 10)))[1]


def test_any_mask_name(tmp_path):
    image = draw(tmp_path / "test" / "dent" / "7.jpg")
    draw(tmp_path / "test" / "good" / "0.png")
    for name in ("7_mask.png", "7.png"):
        mask = draw(tmp_path / "ground_truth" / "dent" / name, 255)
        assert find_test_images(tmp_path)[1] == LabelledImage(image, "dent", mask)
        mask.unlink()
