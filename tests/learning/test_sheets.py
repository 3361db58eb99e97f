"""A reject always shows why, and sheets show the truth beside the verdict; only mistakes count as mistakes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_daemon import make_judged
from fakes import make_verdict, numbered
from test_evaluate import Brightness, data  # noqa: F401  a fixture

from edgead.cli.demo import _Scoreboard, own_line
from edgead.dataset.folders import find_test_images
from edgead.images.boxes import highest_spot
from edgead.images.files import load_image
from edgead.images.overlay import brought_out, draw_heat, draw_truth
from edgead.images.sheet import contact_sheet, pair, pair_sheet
from edgead.profiling.inspector import Inspector
from edgead.report import worst_cases
from edgead.report.evaluate import evaluate
from edgead.report.worst_cases import write_worst_cases

RED = (40, 40, 200)
TRUTH = (255, 220, 60)


def weak(place: tuple[int, int], decision: str = "reject", **changes):
    """A verdict whose map is highest at a place (row, column) of 60 x 80, and nowhere above its threshold."""
    anomaly_map = np.full((60, 80), 0.1, np.float32)
    anomaly_map[place] = 0.2
    return replace(make_verdict(0.6), anomaly_map=anomaly_map, boxes=(), decision=decision, **changes)


def coloured(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels (x, y) of about that colour."""
    return np.argwhere(np.abs(image.astype(int) - colour).max(axis=2) < 30)[:, ::-1]


@pytest.mark.parametrize("decision", ["review", "reject"])
@pytest.mark.parametrize("place", [(30, 40), (0, 0), (59, 79), (0, 50)])
@pytest.mark.parametrize("region", [None, (200, 100, 160, 120)])
def test_what_no_box_explains_has_a_ring_at_its_highest_place(decision, place, region):
    image = np.full((480, 640, 3), 90, np.uint8)
    ring = coloured(draw_heat(image, weak(place, decision, region=region)), RED)
    x, y, width, height = region or (0, 0, 640, 480)
    spot = x + (place[1] + 0.5) * width / 80, y + (place[0] + 0.5) * height / 60
    centre = (ring.min(axis=0) + ring.max(axis=0)) / 2
    radius = np.hypot(*(ring - ring.mean(axis=0)).T).max() + 2
    assert np.hypot(*(centre - spot)) < radius
    assert len(ring) > 60  # also where most of a ring around the spot would lie outside
    # Of dashes: the ring is no closed line.
    mask = np.zeros((480, 640), np.uint8)
    mask[ring[:, 1], ring[:, 0]] = 1
    assert cv2.connectedComponents(mask)[0] > 4


@pytest.mark.parametrize("verdict", [weak((30, 40), "ok"), make_verdict(0.9)])
def test_no_ring_where_nothing_is_to_be_explained(verdict):
    marked = draw_heat(np.full((120, 160, 3), 90, np.uint8), verdict)
    boxed = draw_heat(np.full((120, 160, 3), 90, np.uint8), replace(verdict, decision="ok"))
    assert (marked == boxed).all()


def test_the_highest_spot_in_pixels_of_the_frame():
    anomaly_map = np.zeros((2, 4), np.float32)
    anomaly_map[1, 2] = 1
    assert highest_spot(anomaly_map, (0, 0, 40, 20)) == (25, 15)
    assert highest_spot(anomaly_map, (100, 200, 4, 2)) == (102, 201)


def test_of_a_missed_defect_the_highest_place_is_coloured():
    image = np.full((120, 160, 3), 90, np.uint8)
    missed = weak((30, 40), "ok")
    assert (draw_heat(image, missed) == image).all()
    changed = np.argwhere((draw_heat(image, brought_out(missed)) != image).any(axis=2))
    assert np.abs(changed.mean(axis=0) - (61, 81)).max() < 2
    found = make_verdict(0.9)
    assert brought_out(found) is found


@pytest.mark.parametrize(("palette", "weak_bgr", "hot_bgr"), [("warm", "gr", "r"), ("blue", "bg", "b")])
def test_a_palette_changes_the_colours_and_not_the_places(palette, weak_bgr, hot_bgr):
    image = np.full((60, 80, 3), (40, 90, 130), np.uint8)  # brown
    verdict = replace(make_verdict(0.9), boxes=(), decision="ok", palette=palette)
    anomaly_map = verdict.anomaly_map
    anomaly_map[:] = 0
    anomaly_map[:30], anomaly_map[:5] = verdict.map_threshold, 3 * verdict.map_threshold
    drawn = draw_heat(image, verdict).astype(int)
    other = draw_heat(image, replace(verdict, palette="blue" if palette == "warm" else "warm"))
    assert ((drawn != image).any(axis=2) == (other != image).any(axis=2)).all()
    changes = {"hot": drawn[1, 40] - image[1, 40], "weak": drawn[25, 40] - image[25, 40]}
    for which, expected in (("weak", weak_bgr), ("hot", hot_bgr)):
        most = max(range(3), key=lambda channel: changes[which][channel])
        assert "bgr"[most] in expected, changes


def test_the_palette_of_a_pipeline_stands_in_its_verdicts():
    verdict = Inspector("front", palette="blue").judge(make_judged(1, 0.9)[0], lambda frame: make_verdict(0.9))
    assert verdict.palette == "blue" and "palette" not in verdict.to_dict()
    assert Inspector().judge(make_judged(1, 0.9)[0], lambda frame: make_verdict(0.9)).palette == "warm"


def test_the_truth_is_outlined():
    image = np.full((120, 160, 3), 90, np.uint8)
    mask = np.zeros((120, 160), bool)
    mask[40:60, 100:130] = True
    drawn = draw_truth(image, mask, "truth: dent")
    assert drawn.shape == (138, 160, 3) and (image == 90).all()
    outline = coloured(drawn[18:], TRUTH)
    assert (outline.min(axis=0) == (100, 40)).all() and (outline.max(axis=0) == (129, 59)).all()
    assert (drawn[18 + 50, 115] == 90).all()
    for nothing in (None, np.zeros((120, 160), bool)):
        assert (draw_truth(image, nothing, "truth: good")[18:] == image).all()


def test_a_contact_sheet_holds_every_tile():
    tiles = [(numbered(i, size=(100 + 40 * i, 160)), f"tile {i}") for i in range(5)]
    sheet = contact_sheet(tiles, columns=2, tile_px=100)
    assert sheet.shape[1] == 2 * 104 + 4
    # A row is as high as its highest image: 140, 220 and 260 px of 160 or 260 become these.
    assert sheet.shape[0] == (88 + 22) + (100 + 22) + (100 + 22) + 4
    assert contact_sheet(tiles[:1], columns=4).shape[1] == 320 + 2 * 8
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_a_sheet_of_pairs_leaves_empty_bands_out():
    tile = pair(np.zeros((90, 120, 3), np.uint8), np.full((90, 120, 3), 255, np.uint8))
    assert tile.shape == (270, 724, 3) and not tile[:, :360].any() and (tile[:, 364:] == 255).all()
    one = pair_sheet("title", [("missed", [(tile, "a")]), ("false", [])])
    assert one.shape == pair_sheet("title", [("missed", [(tile, "a")])]).shape
    assert pair_sheet("no part was wrong", []).shape[1] == 1400


@pytest.fixture
def shown(monkeypatch):
    """What is put on a sheet: its title, and the captions of each band."""
    sheets = []

    def remembered(title, bands):
        sheets.append((title, {heading: [caption for _, caption in tiles] for heading, tiles in bands}))
        return pair_sheet(title, bands)

    monkeypatch.setattr(worst_cases, "pair_sheet", remembered)
    return sheets


def test_only_mistakes_count_as_mistakes(data, tmp_path, shown):  # noqa: F811
    detector = Brightness()
    evaluation = evaluate(detector, find_test_images(data))
    write_worst_cases(detector, evaluation, tmp_path / "new" / "worst.png")
    ((title, bands),) = shown
    assert title == "Mistakes on 5 test images at a limit of 0.5 (raw): 1 missed, 0 false rejects"
    missed, rejects, right = bands.values()
    assert missed == ["stain/dark.png"] and rejects == [] and len(right) == 3
    assert "MISSED: 1 of 3 defects judged ok" in next(iter(bands))
    sheet = load_image(tmp_path / "new" / "worst.png")
    assert len(coloured(sheet, TRUTH)) > 50


def test_only_a_missed_defect_has_a_scale_of_its_own_and_says_so(data):  # noqa: F811
    detector = Brightness()
    outcomes = evaluate(detector, find_test_images(data)).outcomes
    own = ["scale of its own" in worst_cases.show_case(detector, outcome).said for outcome in outcomes]
    assert own == [one.image.is_defective and one.decision == "ok" for one in outcomes] and sum(own) == 1


def test_no_kind_of_mistake_takes_all_the_room(data, tmp_path, shown):  # noqa: F811
    detector = Brightness()
    evaluation = evaluate(detector, find_test_images(data))
    missed = [replace(one, decision="ok") for one in evaluation.outcomes if one.image.is_defective]
    rejects = [replace(one, decision="reject") for one in evaluation.outcomes if not one.image.is_defective]
    for count, expected in ((2, (1, 1)), (4, (2, 2)), (24, (3, 2))):
        wrong = replace(evaluation, outcomes=[*missed, *rejects])
        write_worst_cases(detector, wrong, tmp_path / "worst.png", count=count)
        assert tuple(map(len, shown[-1][1].values()))[:2] == expected
        assert shown[-1][0] == "Mistakes on 5 test images at a limit of 0.5 (raw): 3 missed, 2 false rejects"


def test_the_board_of_the_demo(data):  # noqa: F811
    line = own_line(data)
    board = _Scoreboard(line)
    for frame in line.source:
        defect = line.truth(frame)
        score = {None: 0.45, "dent": 0.9, "stain": 0.1}[defect]  # good parts go to review, which is no mistake
        board.see(frame, make_verdict(score))
    assert [name for _, name in board.found] == ["inside.png", "outside.png"]
    assert all(len(coloured(tile, TRUTH)) > 50 for tile, _ in board.found)
    assert board.misses == ["stain/dark.png"] and board.false_rejects == []
