"""Stereo pairs become heights: how right they are in mm, where there are none, and which images make a pair."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import closing
from dataclasses import replace
from importlib.metadata import entry_points

import cv2
import numpy as np
import pytest
from command_line import run_here
from patience import MAX_S

from benchmarks.rendered_pairs import BASELINE_MM, DISTANCE_MM, FOCAL_PX, SIZE, render_pair
from edgead.components.uri import join_stereo, split_stereo
from edgead.images.files import ImageError, load_image
from edgead.process.installation import comes_with
from edgead.sources import SOURCES, SourceError, beside, check_there, gives_depth, is_live, open_source
from edgead.sources.contract import Counters, FrameCounter
from edgead.sources.live import LiveLimits
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection
from edgead.types import VALUES
from edgead_height.source import StereoOptions, StereoSource
from edgead_height.stereo import Rectified, Search, StereoCalibration, StereoHeights, read_calibration, rectified

SEARCH = {"min_disparity": 96, "disparities": 96}
GIVEN = {"baseline_mm": BASELINE_MM, "focal_px": FOCAL_PX, **SEARCH}
QUERY = "&".join(f"{name}={value:g}" for name, value in GIVEN.items())
# What one step of the disparity by a pixel is at that distance.
MM_PER_DISPARITY = DISTANCE_MM**2 / (FOCAL_PX * BASELINE_MM)


def heights_of(pair, **search):
    return StereoHeights(Rectified(FOCAL_PX, BASELINE_MM), Search(**{**SEARCH, **search})).of(pair.left, pair.right)[1]


def seen_by_both(pair):
    """Pixels of the left image that the right camera sees too."""
    return np.arange(pair.mm.shape[1]) >= FOCAL_PX * BASELINE_MM / -pair.mm


# Heights


def test_a_plane_is_as_far_as_it_is_within_a_tenth_of_a_millimetre():
    pair = render_pair(np.random.default_rng(0))
    off = (heights_of(pair) - pair.mm)[seen_by_both(pair)]
    assert np.isfinite(off).mean() > 0.99
    off = off[np.isfinite(off)]
    assert abs(np.median(off)) < 0.03
    # A fortieth of a disparity; without refinement it is half of one, as block matching prefers whole ones.
    assert np.percentile(np.abs(off), 95) < 0.3 < MM_PER_DISPARITY / 10


@pytest.mark.parametrize("dent_mm", [0.5, 1.0, 3.0])
def test_a_dent_is_as_deep_as_it_is(dent_mm):
    pair = render_pair(np.random.default_rng(1), dent_mm=dent_mm)
    mm = heights_of(pair)
    deepest = np.unravel_index(np.argmin(pair.mm), SIZE)
    middle = mm[deepest[0] - 3 : deepest[0] + 4, deepest[1] - 3 : deepest[1] + 4]
    around = np.nanmedian(mm[seen_by_both(pair) & (pair.mm == pair.mm.max())])
    assert around - np.nanmedian(middle) == pytest.approx(dent_mm, abs=0.1)


def test_a_step_is_as_high_as_it_is_and_what_one_camera_sees_is_a_hole():
    pair = render_pair(np.random.default_rng(2), step_mm=20)
    mm = heights_of(pair)
    upper, lower = pair.mm == pair.mm.max(), pair.mm == pair.mm.min()
    assert np.nanmedian(mm[upper]) - np.nanmedian(mm[lower & seen_by_both(pair)]) == pytest.approx(20, abs=0.1)
    assert np.isnan(mm[:, : int(FOCAL_PX * BASELINE_MM / DISTANCE_MM) - 2]).mean() > 0.99
    # The step hides a stretch of the lower plate from the right camera, as wide as the disparities differ. It is a
    # hole, or carries the step's height: a limit that the documentation states.
    edge = int(np.flatnonzero(upper[0])[0])
    hidden = round(FOCAL_PX * BASELINE_MM * (1 / (DISTANCE_MM - 20) - 1 / DISTANCE_MM))
    assert hidden == 6
    assert np.isnan(mm[:, edge - hidden : edge]).mean() > 0.3
    assert (np.abs(mm - pair.mm)[:, edge - hidden : edge] > 5).mean() < 0.6
    assert np.percentile(np.abs(mm - pair.mm)[:, edge - 40 : edge - 15], 99) < 1


def test_where_nothing_can_be_matched_is_a_hole_and_no_invented_height():
    flat = render_pair(np.random.default_rng(3), texture=0.0)
    assert np.isfinite(heights_of(flat)).mean() < 0.01
    one, other = (render_pair(np.random.default_rng(seed)) for seed in (4, 5))
    assert np.isfinite(heights_of(replace_right(one, other.right))).mean() < 0.05


def replace_right(pair, right):
    return pair._replace(right=right)


def test_unequal_brightness_changes_nothing():
    pair = render_pair(np.random.default_rng(6), dent_mm=2)
    darker = cv2.convertScaleAbs(pair.right, alpha=0.8, beta=-5)
    first, second = heights_of(pair), heights_of(replace_right(pair, darker))
    both = np.isfinite(first) & np.isfinite(second)
    assert both.mean() > 0.6 and np.percentile(np.abs(first - second)[both], 95) < 0.5


def test_images_of_two_sizes_are_refused():
    pair = render_pair(np.random.default_rng(0))
    with pytest.raises(ImageError, match="images of one size"):
        heights_of(replace_right(pair, pair.right[:-1]))


# Calibration

CAMERA = np.array([[FOCAL_PX, 0, SIZE[1] / 2], [0, FOCAL_PX, SIZE[0] / 2], [0, 0, 1]])


def write_calibration(path, *, long_names=False, size=SIZE, **changes):
    turned = cv2.Rodrigues(np.array([0.0, 0.0, 0.02]))[0]
    values = {"M1": CAMERA, "D1": np.zeros((1, 5)), "M2": CAMERA, "D2": np.zeros((1, 5))}
    values |= {"R": turned, "T": turned @ np.array([[-BASELINE_MM], [0.0], [0.0]])} | changes
    names = (
        {"M1": "cameraMatrix1", "M2": "cameraMatrix2", "D1": "distCoeffs1", "D2": "distCoeffs2"} if long_names else {}
    )
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    if size:
        storage.write("image_width", size[1])
        storage.write("image_height", size[0])
    for name, value in values.items():
        if value is not None:
            storage.write(names.get(name, name), value)
    storage.release()
    return path


def turned_right(pair):
    """What a right camera sees that is turned by 0.02 rad about its axis: rows no longer fit."""
    turn = cv2.Rodrigues(np.array([0.0, 0.0, 0.02]))[0]
    return cv2.warpPerspective(
        pair.right,
        CAMERA @ turn @ np.linalg.inv(CAMERA),
        SIZE[::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )


@pytest.mark.parametrize("long_names", [False, True])
def test_cameras_that_are_turned_are_rectified_by_the_calibration(tmp_path, long_names):
    pair = render_pair(np.random.default_rng(7))
    turned = replace_right(pair, turned_right(pair))
    calibration = read_calibration(write_calibration(tmp_path / "rig.yml", long_names=long_names))
    image, mm = StereoHeights(calibration, Search(**SEARCH)).of(turned.left, turned.right)
    assert image.shape == pair.left.shape
    found = mm[np.isfinite(mm)]
    assert len(found) > 0.4 * mm.size
    assert np.median(found) == pytest.approx(-DISTANCE_MM, abs=0.5)
    # As if the rows fitted, what is matched is far off, or nothing.
    assert np.percentile(np.abs(found + DISTANCE_MM), 90) < 0.5
    assert np.nanpercentile(np.abs(heights_of(turned) + DISTANCE_MM), 90) > 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"M1": None}, "no M1"),
        ({"T": None, "R": None}, "no R;"),
        ({"R": np.eye(2)}, "R must be 3 x 3"),
        ({"R": np.full((3, 3), 0.5)}, "no rotation"),
        ({"R": np.full((3, 3), np.nan)}, "no matrix|no numbers"),
        ({"T": np.zeros((3, 1))}, "T must be"),
        ({"M2": -CAMERA}, "focal lengths"),
        ({"D1": np.zeros((1, 3))}, "4, 5, 8, 12 or 14"),
        ({"M1": np.zeros((40, 3))}, "at most 16 rows"),
    ],
)
def test_a_calibration_that_no_two_cameras_have_is_refused(tmp_path, changes, words):
    with pytest.raises(ImageError, match=words) as refused:
        read_calibration(write_calibration(tmp_path / "rig.yml", **changes))
    assert "rig.yml" in str(refused.value)


MATRIX = "%YAML:1.0\n---\nM1: !!opencv-matrix\n   rows: {}\n   cols: 3\n   dt: d\n   data: [ {}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no calibration"),
        ("[1, 2]", "no calibration"),
        ("{}", "no M1"),
        (MATRIX.format(3, "1., 2."), "bracket is not closed"),
        (MATRIX.format(300_000, "]"), "at most 16"),
        (MATRIX.format(2, "1., 2. ]"), "M1 is no matrix"),
        (MATRIX.format(1, "1., 2., word ]"), "M1 is no matrix"),
        ("%YAML:1.0\n---\nM1: [ 1, 2 ]\n", "M1 is no matrix"),
        ("%YAML:1.0\n---\nM1: &a [ 1 ]\nM2: *a\n", "aliases"),
        ("%YAML:1.0\n---\nM1: !!python/name:os.system x\n", "line 3"),
        (b"\xff\xfe%YAML", "decode"),
        ("%YAML" + " " * (1 << 20), "bytes"),
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path, content, words):
    (tmp_path / "rig.yml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ImageError, match=words):
        read_calibration(tmp_path / "rig.yml")


@pytest.mark.parametrize(
    ("moved", "size", "words"),
    [
        ((BASELINE_MM, 0, 0), None, "other way round"),
        ((0, -BASELINE_MM, 0), None, "above each other"),
        ((-BASELINE_MM, 0, 0), (480, 640), "640 x 480 pixels"),
    ],
)
def test_a_calibration_that_does_not_fit_the_images_is_refused(moved, size, words):
    none = np.zeros((1, 5))
    shift = np.array(moved, float).reshape(3, 1)
    calibration = StereoCalibration((CAMERA, CAMERA), (none, none), np.eye(3), shift, size)
    with pytest.raises(ImageError, match=words):
        rectified(calibration, SIZE)


# Addresses


def test_the_entry_point_is_the_source_and_the_core_names_its_package_where_it_is_not_installed():
    assert {entry.value for entry in entry_points(group="edgead.sources", name="stereo")} == {"edgead_height.source"}
    assert comes_with("edgead.sources", "stereo").startswith("stereo comes with edgead-height: ")
    assert SOURCES.all()["stereo"].options is StereoOptions and "stereo" not in SOURCES.builtin()


def test_an_address_has_two_sources_with_options_of_their_own():
    uri = "stereo:v4l2:///dev/video0?width=640|v4l2:///dev/video2?width=640?baseline_mm=60&focal_px=1200"
    assert split_stereo(uri) == (
        "v4l2:///dev/video0?width=640",
        "v4l2:///dev/video2?width=640",
        "baseline_mm=60&focal_px=1200",
    )
    assert join_stereo(*split_stereo(uri)) == uri
    assert is_live(uri) and gives_depth(uri)
    assert not is_live("stereo:left|right?baseline_mm=60&focal_px=1200")


def test_relative_folders_and_the_calibration_lie_beside_the_site_file(tmp_path):
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
    found = beside("stereo:left|camera:0?calibration=rig.yml&disparities=64", tmp_path)
    assert found == f"stereo:{tmp_path}/left|camera:0?calibration={tmp_path}/rig.yml&disparities=64"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("stereo:{0}/left?baseline_mm=60&focal_px=1200", "name two sources"),
        ("stereo:{0}/left|{0}/right", "baseline_mm and focal_px"),
        ("stereo:{0}/left|{0}/right?baseline_mm=60", "baseline_mm and focal_px"),
        ("stereo:{0}/left|{0}/right?baseline_mm=60&focal_px=1&calibration=a", "calibration alone"),
        ("stereo:{0}/left|{0}/right?baseline_mm=60&focal_px=1&disparities=20", "multiple"),
        ("stereo:{0}/left|{0}/right?baseline_mm=60&focal_px=1&window=4", "odd"),
        ("stereo:{0}/left|{0}/right?baseline_mm=60&focal_px=1&base=2", "unknown option"),
        ("stereo:{0}/left|{0}/right?calibration={0}/none.yml", "is missing"),
        ("stereo:request:|request:?baseline_mm=60&focal_px=1", "sent one by one"),
        ("stereo:{0}/left|{0}/none?baseline_mm=60&focal_px=1", "none: no such"),
        ("stereo:{0}/left|synthetic:?rate=5?baseline_mm=60&focal_px=1", "one of the two is a live camera"),
    ],
)
def test_an_address_that_does_not_fit_is_refused_in_words(folders, uri, words):
    with pytest.raises(SourceError, match=words):
        open_source(uri.format(folders)).close()


# Pairs


@pytest.fixture
def folders(tmp_path):
    """Left and right images of plates, three of which are there twice; what is odd about the names differs."""
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
    for number in range(5):
        pair = render_pair(np.random.default_rng(number), dent_mm=number)
        if number != 1:
            cv2.imwrite(str(tmp_path / f"left/cam1_{number:03d}.png"), pair.left)
        if number != 3:
            cv2.imwrite(str(tmp_path / f"right/cam2_{number}.png"), pair.right)
    return tmp_path


def test_folders_are_paired_by_number_and_what_has_no_like_is_counted_and_said(folders, caplog):
    with closing(open_source(f"stereo:{folders}/left|{folders}/right?{QUERY}")) as source:
        with caplog.at_level(logging.WARNING):
            frames = list(source)
        assert [frame.name for frame in frames] == ["cam1_000.png", "cam1_002.png", "cam1_004.png"]
        assert source.counters == Counters(captured=3, dropped=2)
        assert not source.live
    assert "cam2_1.png" in caplog.text and "dropped" in caplog.text
    for frame, number in zip(frames, (0, 2, 4), strict=True):
        pair = render_pair(np.random.default_rng(number), dent_mm=number)
        np.testing.assert_array_equal(frame.image, pair.left)
        np.testing.assert_array_equal(frame.others[VALUES], heights_of(pair))


def test_what_is_left_over_at_the_end_is_dropped_too(folders):
    for number in (2, 3, 4):
        (folders / f"left/cam1_{number:03d}.png").unlink(missing_ok=True)
    with closing(open_source(f"stereo:{folders}/left|{folders}/right?{QUERY}")) as source:
        assert len(list(source)) == 1
        assert source.counters.dropped == 3


class Camera:
    """A live source whose images come at moments that the test says, in ms; then it waits until it is closed."""

    live = True

    def __init__(self, name, times_ms, *, endless=False):
        self.uri, self._times_ms, self._endless = name, times_ms, endless
        self._frames = FrameCounter(name)
        self.closed = threading.Event()
        self.counters = Counters()

    def __iter__(self):
        image = render_pair(np.random.default_rng(0), size=(32, 240)).left
        for at in self._times_ms:
            yield replace(self._frames.capture(image), captured_ns=int(at * 1e6))
        while self._endless and not self.closed.wait(0.01):
            at = self._times_ms[-1] + 1000 * time.monotonic()
            yield replace(self._frames.capture(image), captured_ns=int(at * 1e6))

    def close(self):
        self.closed.set()


def paired(left_ms, right_ms, **options):
    source = StereoSource(
        "stereo", (Camera("l", left_ms), Camera("r", right_ms)), StereoOptions(**GIVEN, **options), LiveLimits()
    )
    return [frame.captured_ns / 1e6 for frame in source], source.unpaired


def test_live_images_are_paired_within_the_tolerance_and_the_older_time_counts():
    assert paired([0, 33, 66], [4, 37, 62]) == ([0, 33, 62], 0)
    assert paired([0, 33, 66, 99], [34, 100]) == ([33, 99], 2)
    assert paired([50], [0, 20, 45, 90]) == ([45], 2)
    assert paired([0, 33], [15, 48], tolerance_ms=20) == ([0, 33], 0)
    assert paired([0, 33], [15, 48])[0] == []


def test_cameras_that_never_fit_are_a_fault_that_says_how_far_they_are_apart():
    cameras = Camera("l", [0], endless=True), Camera("r", [10_000_000], endless=True)
    source = StereoSource("stereo", cameras, StereoOptions(**GIVEN), LiveLimits(read_timeout_s=0.2))
    with closing(source), pytest.raises(SourceError, match="no pair for 0.2 s.*ms apart.*trigger both"):
        list(source)
    assert all(camera.closed.is_set() for camera in cameras)


# From the folder to a verdict


def test_the_command_writes_what_the_source_gives(folders):
    settings = [text for name, value in GIVEN.items() for text in ("--set", f"{name}={value:g}")]
    ended = run_here("heights", "--stereo", folders / "left", folders / "right", "-o", folders / "maps", *settings)
    assert ended.returncode == 0 and "2 images had no like" in ended.stderr
    pair = render_pair(np.random.default_rng(2), dent_mm=2)
    mm = load_image(folders / "maps/heights/cam1_002.tiff", keep_depth=True)
    np.testing.assert_array_equal(mm, heights_of(pair))
    np.testing.assert_array_equal(load_image(folders / "maps/colours/cam1_002.png"), pair.left)


def test_folders_without_a_pair_leave_nothing(folders):
    settings = [text for name, value in GIVEN.items() for text in ("--set", f"{name}={value:g}")]
    for path in (folders / "right").iterdir():
        path.rename(path.with_name(f"{path.stem}00.png"))
    (folders / "right/cam2_000.png").unlink(missing_ok=True)
    ended = run_here("heights", "--stereo", folders / "left", folders / "right", "-o", folders / "maps", *settings)
    assert ended.returncode == 2 and "no pair of images" in ended.stderr
    assert not (folders / "maps").exists()


def test_a_check_of_the_site_looks_for_both_sources_and_the_calibration(folders):
    check_there(f"stereo:{folders}/left|{folders}/right?{QUERY}")
    with pytest.raises(SourceError, match="none: no such"):
        check_there(f"stereo:{folders}/left|{folders}/none?{QUERY}")
    with pytest.raises(SourceError, match="none.yml: is missing"):
        check_there(f"stereo:{folders}/left|{folders}/right?calibration={folders}/none.yml")


def test_the_daemons_camera_takes_pairs_as_it_takes_others(folders):
    camera = SupervisedCamera("rig", CameraSection(uri=f"stereo:{folders}/left|{folders}/right?{QUERY}"))
    mailbox = camera.subscribe()
    camera.start()
    with closing(camera):
        frames = [frame for frame in iter(lambda: mailbox.get(MAX_S), None)]
        assert [frame.source for frame in frames] == ["rig"] * 3
        assert all(frame.others[VALUES].dtype == np.float32 for frame in frames)
        assert camera.gives_depth and camera.status().state == "ended"


@pytest.mark.slow
def test_a_model_of_heights_judges_what_two_cameras_see(tmp_path):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    for number in range(14):
        pair = render_pair(np.random.default_rng(number), dent_mm=3.0 if number == 13 else 0.0)
        for side, image in (("left", pair.left), ("right", pair.right)):
            folder = tmp_path / ("new" if number > 11 else "good") / side
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number:02d}.png"), image)
    good, new = tmp_path / "good", tmp_path / "new"
    settings = [text for name, value in GIVEN.items() for text in ("--set", f"{name}={value:g}")]
    assert (
        run_here("heights", "--stereo", good / "left", good / "right", "-o", tmp_path / "maps", *settings).returncode
        == 0
    )
    options = (
        "--input",
        "relief",
        "--mm-per-count",
        "1",
        "--roi",
        "150,0,250,240",
        "--image-size",
        "96",
        "--group",
        "none",
    )
    small = ("--backbone", "efficientnet_lite0", "--memory-bank-size", "300", "--false-reject-rate", "0.2")
    assert run_here("train", tmp_path / "maps/heights", "-o", tmp_path / "model", *options, *small).returncode == 0
    verdicts = tmp_path / "verdicts.jsonl"
    uri = f"stereo:{new}/left|{new}/right?{QUERY}"
    assert run_here("stream", tmp_path / "model", uri, "--sink", f"jsonl:{verdicts}").returncode == 0
    fine, dented = map(json.loads, verdicts.read_text().splitlines())
    assert dented["decision"] == "reject" and dented["image_score"] > 1.2 * fine["image_score"]
    assert dented["boxes"][0]["lowest_mm"] == pytest.approx(-3, abs=0.6)
