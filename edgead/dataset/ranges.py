"""Ranges of good parts' values, which are mapped to 0 to 255 for networks on images with full depth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgead.artifact.inputs import Colour, Range, Relief
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import cut, read_frame, surface_in
from edgead.dataset.errors import DatasetError
from edgead.errors import SettingsError
from edgead.images.files import ImageError, as_bgr, has_depth, load_image

_LOOKED_AT = 30  # images, evenly spaced over all
_COUNTED = 3  # images whose distinct levels are counted
_VALUES = 20_000  # values sampled from each image
_TAIL = 0.1  # percent of the values on each side outside of the range: dead pixels, reflections
# Deviations of a surface that are mapped to 0 and to 255, which gives about the contrast of a photograph.
_DEVIATIONS = 6.0
# Sigma of the surroundings of a height, as a share of the network's input.
_SURROUNDINGS = 1 / 8


def with_colour(
    spec: Preprocessing, colour: Colour, mm_per_count: float | None, paths: Sequence[Path]
) -> Preprocessing:
    """Derive the preprocessing of images with full depth from good images.

    `spec`: preprocessing of a method, with the region of interest.
    `colour`: {"rgb", "grey16", "relief", "rgb_relief"}.
    `mm_per_count`: scale of heights.
    `paths`: readable images.
    Raises DatasetError: all values are the same.
    Raises SettingsError: heights without `mm_per_count`.
    """
    if colour == "rgb":
        return spec
    picks = _picks(paths, _LOOKED_AT)
    if colour == "grey16":
        found = _grey_range(picks, spec)
        return spec.model_copy(update={"colour": colour, "grey16": found})
    if mm_per_count is None:
        raise SettingsError("heights need --mm-per-count: how many millimetres one count of the height map is")
    return _relief(picks, spec.model_copy(update={"colour": colour}), mm_per_count)


def depth_warnings(paths: Sequence[Path], spec: Preprocessing) -> list[str]:
    """Warn that an 8-bit model loses values of one-channel images with more bits; empty if nothing is lost."""
    if spec.colour != "rgb":
        return []
    images = map(partial(load_image, keep_depth=True), _picks(paths, _COUNTED))
    found = [image.ravel() for image in images if has_depth(image) and image.dtype == np.uint16]
    if not found:
        return []
    levels = np.unique(np.concatenate(found))
    kept = np.unique(as_bgr(levels[np.newaxis])).size
    if kept == levels.size:
        return []
    return [
        f"images have {levels.size:,} grey levels, {levels[0]:,} to {levels[-1]:,} of 65,535, and 8 bits keep {kept:,} "
        "of them: --input grey16 learns all"
    ]


def _picks(paths: Sequence[Path], most: int) -> list[Path]:
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int))]


def _grey_range(paths: Sequence[Path], spec: Preprocessing) -> Range:
    wanted = spec.model_copy(update={"colour": "grey16"})
    values = []
    for path in paths:
        seen = cut(read_frame(path, wanted), spec.roi).ravel()
        if not np.isfinite(seen).all():
            raise DatasetError(f"{path} has NaN or infinity: leave it out, or give numbers for what was not measured")
        values.append(seen[:: max(1, seen.size // _VALUES)])
    all_values = np.concatenate(values).astype(np.float64)
    low, high = np.percentile(all_values, (_TAIL, 100 - _TAIL))
    if not low < high:
        low, high = float(all_values.min()), float(all_values.max())
    if not low < high:
        raise DatasetError(f"{paths[0]} and the others have the value {low:g} everywhere: nothing is on them")
    return Range(low=float(low), high=float(high))


def _relief(paths: Sequence[Path], spec: Preprocessing, mm_per_count: float) -> Preprocessing:
    sigma_px = _SURROUNDINGS * min(spec.image_size)
    # A perfectly flat part has only the deviation of rounding to counts, and a tenth of it in slopes, which are
    # smoothed.
    rounding = mm_per_count / 12**0.5
    relief = Relief(mm_per_count=mm_per_count, height_mm=1, slope_mm=1, sigma_px=sigma_px)
    wanted = spec.model_copy(update={"relief": relief, "tiles": None})
    heights, slopes = [], []
    for path in paths:
        try:
            surface = surface_in(read_frame(path, wanted), wanted)
        except ImageError as error:
            raise DatasetError(f"{path}: {str(error).removeprefix(f'{path}: ')}; leave it out") from error
        heights.append(float(surface.height.std()))
        slopes.append(float(np.hypot(surface.across, surface.down).std()))
    update = {
        "height_mm": _DEVIATIONS * max(float(np.median(heights)), rounding),
        "slope_mm": _DEVIATIONS * max(float(np.median(slopes)), rounding / 10),
    }
    return wanted.model_copy(update={"relief": relief.model_copy(update=update)})
