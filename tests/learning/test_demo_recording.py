"""The data set, the video and its truth on disk."""

import cv2
import numpy as np
import pytest

from edgead.synthetic import DEFECTS, conveyor, load_truth, recording, render, write_dataset, write_video

SMALL = {"train_good": 3, "test_good": 2, "per_defect": 1, "seed": 5}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("demo") / "new" / "set", **SMALL)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "line.avi"
    return path, write_video(path, count=60, seed=3)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def test_layout(dataset):
    found = {str(path.relative_to(dataset)) for path in dataset.rglob("*.*g")}
    expected = {f"train/good/{i:03d}.jpg" for i in range(3)} | {f"test/good/{i:03d}.jpg" for i in range(2)}
    for defect in DEFECTS:
        expected |= {f"test/{defect}/000.jpg", f"ground_truth/{defect}/000_mask.png"}
    assert found == expected
    assert [path.name for path in dataset.parent.iterdir()] == ["set"]


def test_masks_on_disk_mark_the_defects(dataset):
    for defect in DEFECTS:
        image, mask = read(dataset / f"test/{defect}/000.jpg"), read(dataset / f"ground_truth/{defect}/000_mask.png")
        assert image.shape == (480, 480, 3)
        assert mask.shape == (480, 480) and set(np.unique(mask)) == {0, 255}


def test_images_of_a_data_set_are_all_different(dataset):
    images = [read(path).tobytes() for path in dataset.glob("*/*/???.jpg")]
    assert len(set(images)) == len(images) == 5 + len(DEFECTS)


def test_the_same_data_set_is_reused(dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    calls = []
    assert write_dataset(dataset, **SMALL, progress=lambda *done: calls.append(done)) == dataset
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before
    assert calls == []


def test_another_data_set_is_refused(dataset):
    with pytest.raises(FileExistsError, match="test_good 2 instead of 4"):
        write_dataset(dataset, **{**SMALL, "test_good": 4})


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a demo data set"):
        write_dataset(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_incomplete_data_set_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "set", train_good=2, test_good=0, per_defect=0)
    (folder / "train/good/001.jpg").unlink()
    with pytest.raises(FileExistsError, match="lacks 1 images, train/good/001.jpg"):
        write_dataset(folder, train_good=2, test_good=0, per_defect=0)


def test_empty_folder_is_filled_and_progress_reported(tmp_path):
    calls = []
    write_dataset(tmp_path, train_good=2, test_good=1, per_defect=0, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert (tmp_path / "train/good/001.jpg").is_file()


def test_a_failed_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(path, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording, "_write_jpeg", full)
    with pytest.raises(OSError, match="No space left"):
        write_dataset(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_negative_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="per_defect.*-1"):
        write_dataset(tmp_path / "set", per_defect=-1)


def test_video_and_truth_agree(video):
    path, truth_path = video
    assert truth_path == path.with_name("line.truth.jsonl")
    truths = load_truth(truth_path)
    assert [truth.frame for truth in truths] == list(range(60))
    assert {truth.defect for truth in truths} == {None, *DEFECTS}
    for truth in truths:
        assert bool(truth.boxes) == (truth.defect is not None)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["line.avi", "line.truth.jsonl"]


def test_frames_are_the_rendered_parts(video):
    path, truth_path = video
    truths = load_truth(truth_path)
    parts = recording._video_parts(3, 60, 0.1)
    capture = cv2.VideoCapture(str(path))
    frames = [frame for ok, frame in iter(capture.read, (False, None)) if ok]
    capture.release()
    assert len(frames) == 60
    for frame, (seed, defect), truth in zip(frames[::4], parts[::4], truths[::4], strict=True):
        image, mask = render(seed, defect)
        assert truth.defect == defect
        # JPEG and its halved colour resolution cost about as much as the sensor's noise.
        assert np.abs(frame.astype(int) - image).mean() < 2.5
        covered = np.zeros_like(mask)
        for x, y, width, height in truth.boxes:
            covered[y : y + height, x : x + width] = True
        assert covered[mask].all()


def test_video_films_the_conveyor(tmp_path):
    truths = load_truth(write_video(tmp_path / "short.avi", count=8, seed=6, defect_rate=0.4))
    assert [truth.defect for truth in truths] == [defect for _, _, defect in conveyor(6, 8, 0.4)]


def test_no_defects_when_none_are_asked_for():
    assert {defect for _, defect in recording._video_parts(1, 80, 0)} == {None}


@pytest.mark.parametrize(("name", "count"), [("line.mp4", 5), ("line.avi", 0)])
def test_bad_video_is_refused(tmp_path, name, count):
    with pytest.raises(ValueError, match="avi|count=0"):
        write_video(tmp_path / name, count=count)
    assert list(tmp_path.iterdir()) == []


def test_bad_truth_is_named(tmp_path):
    path = tmp_path / "line.truth.jsonl"
    path.write_text('{"frame": 0, "defect": null, "boxes": []}\n{"frame": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        load_truth(path)
