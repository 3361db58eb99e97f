"""The benchmark of Ped2: both layouts of its clips are read, and scores are changed and counted as its table says."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")

from benchmarks.ped2 import EVENTS, print_row, read_clips  # noqa: E402
from edgead.images.files import write_image  # noqa: E402


@pytest.mark.parametrize(
    ("training", "testing", "ext"),
    [("Train/Train{:03d}", "Test/Test{:03d}", "tif"), ("training/frames/{:02d}", "testing/frames/{:02d}", "png")],
)
def test_clips_are_read_in_both_layouts(training, testing, ext, tmp_path):
    for name, count in ((training, 3), (testing, 12)):
        for clip in range(1, count + 1):
            for number in (1, 2, 10):
                image = np.full((4, 6, 3), 10 * clip + number, np.uint8)
                write_image(tmp_path / name.format(clip) / f"{number:03d}.{ext}", image)
    (tmp_path / "Test" / "Test001_gt").mkdir(parents=True)
    learnt, tested = read_clips(tmp_path)
    assert len(learnt) == 3 and len(tested) == len(EVENTS)
    assert [int(frame[0, 0, 0]) for frame in tested[1]] == [21, 22, 30]


def test_a_folder_that_is_not_ped2_is_named(tmp_path):
    with pytest.raises(SystemExit, match="0 training and 0 test clips were found"):
        read_clips(tmp_path)


def test_a_row_counts_frames_together_and_clip_by_clip(capsys):
    """Each clip is in order, but the second lies higher: only its own range brings them together."""
    labels = [np.arange(4) >= 2, np.arange(4) >= 2, np.ones(4, bool)]
    errors = [np.arange(4.0), np.arange(4.0) + 10, np.full(4, 100.0) + np.arange(4)]
    print_row("x", labels, [(0.5, errors), (0.5, errors)])
    cells = [float(cell) for cell in capsys.readouterr().out.split("|")[2:-1]]
    # 8 frames with an event, 4 without: all pairs but those of the first clip's events and the second's others.
    assert cells[0] == pytest.approx((8 * 4 - 2 * 2) / 32, abs=1e-3) and cells[-1] == 1
    # In 0..1, the third clip's 0 and 1/3 have two ties each, and 0 lies below two others.
    assert cells[2] == pytest.approx((8 * 4 - 4) / 32)
