"""Thresholds that would let a known defect pass are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgead.adapt.recalibrate import refuse_thresholds
from edgead.errors import SettingsError
from edgead.images.files import load_image, write_image


def limits(review: float) -> Any:
    return SimpleNamespace(review=review, reject=review + 1)


def test_limits_that_let_a_stopped_part_pass_are_refused(tmp_path):
    paths = []
    for grey in (10, 50, 90):
        paths.append(tmp_path / f"{grey}" / "frame.png")
        write_image(paths[-1], np.full((4, 4, 3), grey, np.uint8))
    detector: Any = SimpleNamespace(image_scores=lambda bad: [float(load_image(path).mean()) for path in bad])
    refuse_thresholds(detector, paths, limits(40), limits(40))
    refuse_thresholds(detector, paths, limits(40), limits(20))
    refuse_thresholds(detector, paths, limits(20), limits(49))  # 10 passed before, 50 and 90 are still stopped
    with pytest.raises(
        SettingsError, match=f"1 of 3 bad parts .*, {Path('50', 'frame.png')} first: it scores 50, .* 60"
    ):
        refuse_thresholds(detector, paths, limits(40), limits(60))
