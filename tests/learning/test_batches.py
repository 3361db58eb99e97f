"""The built-in line in batches: data sets, and scores of batches that are in none."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.batches import batch_scores, main, write_batches
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.line import part_seed, render


def test_scores_are_those_of_unseen_batches_and_are_kept(trained_model, tmp_path):
    cache = tmp_path / "scores"
    scores, groups = batch_scores(trained_model, 3, 2, cache=cache)
    assert groups.tolist() == [0, 0, 1, 1, 2, 2]
    part, _ = render(part_seed(79, 4, on_conveyor=True), batch=part_seed(79, 2, on_conveyor=True))
    with Detector.load(trained_model) as detector:
        assert scores[4] == detector.measure(part).image_score
    # Marked, to see that the second call reads it.
    with np.load(cache) as found:
        kept = dict(found)
    with cache.open("wb") as file:
        np.savez(file, **{**kept, "scores": kept["scores"] + 1})
    again, groups_again = batch_scores(trained_model, 3, 2, cache=cache)
    assert np.array_equal(again, scores + 1) and np.array_equal(groups_again, groups)
    with pytest.raises(SystemExit, match="other batches: name another file"):
        batch_scores(trained_model, 2, 3, cache=cache)
    with pytest.raises(SystemExit, match="at least one batch"):
        batch_scores(trained_model, 0, 3)


def test_a_data_set_tests_on_other_batches(tmp_path, capsys):
    folder = tmp_path / "set"
    main([str(folder), "--batches", "3", "--parts", "2", "--test-batches", "2", "--per-defect", "1"])
    assert "3 batches of 2 good parts" in capsys.readouterr().out

    def groups(paths):
        return [re.match(r"(batch\d+)_\d{3}\.png$", path.name)[1] for path in paths]

    training = find_good_images(folder)
    tests = find_test_images(folder)
    assert groups(training) == ["batch00"] * 2 + ["batch01"] * 2 + ["batch02"] * 2
    good = [image.path for image in tests if not image.is_defective]
    assert groups(good) == ["batch03"] * 2 + ["batch04"] * 2
    flawed = [image for image in tests if image.is_defective]
    assert sorted(image.defect for image in flawed) == sorted(DEFECTS)
    assert set(groups([image.path for image in flawed])) == {"batch03", "batch04"}
    assert all(image.load_mask((480, 480)).any() for image in flawed)
    assert np.array_equal(load_image(training[3]), render(part_seed(0, 3), batch=part_seed(0, 1))[0])
    numbers = [image.path.name for image in tests]
    assert len(numbers) == len(set(numbers)), "a part has one number"
    with pytest.raises(SystemExit, match="not an empty folder"):
        write_batches(folder, batches=1, parts=1, test_batches=1)
    with pytest.raises(SystemExit, match="at least one batch"):
        write_batches(tmp_path / "other", batches=0, parts=1, test_batches=1)
    assert not (tmp_path / "other").exists()
