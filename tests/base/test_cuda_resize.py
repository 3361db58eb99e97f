"""Images resized on the GPU against the rule of the CPU, `edgead.artifact.preprocess`: bit by bit.

test_cuda_build.py runs these on an emulated GPU as well.
"""

from __future__ import annotations

import numpy as np
import pytest
from backends import needs_cuda
from test_cuda import code, from_device, on_device

from edgead.artifact.inputs import Preprocessing
from edgead.artifact.preprocess import as_frame, looked_at, preprocess, resize_steps
from edgead.kernels import cuda
from edgead.kernels.resize_bands import resize_bands

# Shapes of frames for an input of 32 x 40 pixels, and what they are resized by.
SHAPES = {
    (32, 40): [],
    (96, 120): ["shrink"],
    (128, 160): ["shrink"],
    (200, 161): ["shrink"],
    (97, 211): ["shrink"],
    (331, 127): ["shrink"],
    (64, 80): ["blocks"],
    (64, 40): ["blocks"],
    (32, 120): ["blocks"],
    (33, 41): ["area"],
    (50, 99): ["area"],
    (94, 333): ["area"],
    (32, 41): ["area"],
    (31, 39): ["linear"],
    (32, 7): ["linear"],
    (1, 1): ["linear"],
    (16, 20): ["linear"],
    (50, 20): ["area", "linear"],
    (11, 400): ["blocks", "linear"],
    (5, 333): ["area", "linear"],
}


@pytest.fixture
def rng():
    return np.random.default_rng(29)


def prepared_on_gpu(image, spec):
    """What a card makes of an image that the CPU has looked at."""
    seen, size, sides = looked_at(image, spec)
    resizer = cuda.Resizer(resize_steps(seen.shape[:2], size), spec.image_size, sides[::2])
    source, target = (
        on_device(np.ascontiguousarray(seen)),
        code.DeviceMemory(3 * spec.image_size[0] * spec.image_size[1]),
    )
    resizer(source.pointer, target.pointer)
    code.synchronize(0)
    return from_device(target, (*spec.image_size, 3), np.uint8)


def check_equal(image, spec):
    np.testing.assert_array_equal(prepared_on_gpu(image, spec), preprocess(image, spec))


@needs_cuda
@pytest.mark.parametrize(("shape", "sums"), SHAPES.items(), ids=str)
def test_every_step_gives_the_pixels_of_the_cpu(rng, shape, sums):
    spec = Preprocessing(image_size=(32, 40))
    assert [step.sums for step in resize_steps(shape, spec.image_size)] == (sums or ["shrink"])
    check_equal(rng.integers(0, 256, (*shape, 3), np.uint8), spec)
    # Halves, which are rounded to even or up, are frequent among few values.
    check_equal(rng.integers(0, 3, (*shape, 3), np.uint8), spec)


@needs_cuda
@pytest.mark.parametrize("size", [(32, 32), (33, 31), (37, 65), (1, 3)])
def test_off_the_lanes(rng, size):
    spec = Preprocessing(image_size=size)
    for _ in range(12):
        check_equal(rng.integers(0, 256, (*rng.integers(1, 130, 2), 3), np.uint8), spec)


@needs_cuda
@pytest.mark.parametrize("more", [3, 37])
def test_parts_of_a_pixel_that_are_too_narrow_count_for_nothing(rng, more):
    """Of less than a thousandth of a pixel, and not of one that is wider."""
    check_equal(rng.integers(0, 256, (2, 3000 + more, 3), np.uint8), Preprocessing(image_size=(2, 3000)))
    check_equal(rng.integers(0, 256, (3000 + more, 2, 3), np.uint8), Preprocessing(image_size=(3000, 2)))


@needs_cuda
@pytest.mark.parametrize("shape", [(90, 200), (200, 90), (16, 30), (3, 300), (300, 2)])
def test_what_is_free_is_filled_up(rng, shape):
    """Also with more than the image has, which is reflected again and again."""
    check_equal(rng.integers(0, 256, (*shape, 3), np.uint8), Preprocessing(image_size=(32, 40), fill="reflect"))


@needs_cuda
def test_a_region_and_places_to_ignore(rng):
    image = rng.integers(0, 256, (120, 150, 3), np.uint8)
    ignored = {"frame_size": (120, 150), "polygons": (((20, 30), (60, 30), (60, 90)),)}
    for roi in ((10, 20, 100, 90), (0, 0, 40, 32), (149, 119, 1, 1)):
        check_equal(image, Preprocessing(image_size=(32, 40), roi=roi, fill="reflect"))
        check_equal(image, Preprocessing(image_size=(32, 40), roi=roi, ignored=ignored))


@needs_cuda
def test_grey_frames(rng):
    spec = Preprocessing(image_size=(32, 40))
    for shape in ((100, 130), (50, 60), (20, 20)):
        check_equal(as_frame(rng.integers(0, 256, shape, np.uint8), spec), spec)


@needs_cuda
def test_arguments_of_a_resizer():
    with pytest.raises(ValueError, match="one step at least"):
        cuda.Resizer([], (4, 4))
    with pytest.raises(ValueError, match="must be device pointers, found 0"):
        cuda.Resizer([resize_bands("area", (4, 4), (2, 2))], (2, 2))(0, 0)


def test_a_side_beyond_what_sums_hold_is_refused():
    with pytest.raises(ValueError, match="at most 65535 pixels a side"):
        resize_bands("shrink", (65_536, 9), (3, 3))
