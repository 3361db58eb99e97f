"""Images that do not look as those that a model knows are named, and others are not."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.images.files import load_image
from edgead.images.likeness import Size, likeness_warnings, look_of, misfit, odd_ones

GOLDEN = "the model's golden images"


def part(colour=(200, 120, 60), shape=(48, 64), seed=0) -> np.ndarray:
    """A part of one colour on grey ground, BGR, with noise."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), 90)
    image[shape[0] // 4 : -shape[0] // 4, shape[1] // 4 : -shape[1] // 4] = colour
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


KNOWN = [look_of(part(seed=seed)) for seed in range(3)]


def warnings(*images: np.ndarray, known=KNOWN, **options) -> list[str]:
    looks = {f"{number}.png": look_of(image) for number, image in enumerate(images)}
    return likeness_warnings(looks, known, GOLDEN, **options)


def test_images_like_the_known_ones_are_not_named():
    defective = part(seed=5)
    defective[20:30, 20:40] = (60, 120, 200)  # a large spot of the other colour
    larger = part(shape=(480, 640), seed=6)
    assert warnings(part(seed=3), defective, larger, part(shape=(46, 64))) == []


def test_exchanged_channels_are_named():
    (found,) = warnings(part(seed=3), part(seed=4)[:, :, ::-1])
    assert found.startswith(f"1 of 2 images, 1.png first, look as if red and blue were exchanged, beside {GOLDEN}: ")


def test_grey_images_have_no_order_of_channels():
    grey = [look_of(np.repeat(part(seed=seed)[:, :, :1], 3, axis=2)) for seed in range(3)]
    assert warnings(part()[:, :, ::-1], known=grey) == []


def test_grey_images_are_named_where_colours_are_known():
    grey, faint = part(seed=3), part(seed=4)
    grey[:] = grey[:, :, :1]
    faint[:, :, 0] = faint[:, :, 2] + 2  # as a camera for colour gives a grey part
    found = warnings(part(), grey, faint)
    assert found[0].startswith(f"1 of 3 images, 1.png first, are grey, and {GOLDEN} have colours: ")
    assert warnings(part(seed=5), known=[look_of(grey)]) == []


def test_parts_of_the_built_in_line_are_like_each_other(line_data):
    known = [look_of(load_image(path)) for path in sorted((line_data / "train" / "good").iterdir())[:3]]
    assert warnings(*map(load_image, sorted((line_data / "test").rglob("*.jpg"))), known=known) == []


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((64, 48), {}, "have other proportions (48 x 64 pixels) than"),
        ((64, 48), {"stretched": False}, None),
        ((5, 5), {}, "have other proportions (5 x 5 pixels)"),
        ((12, 16), {}, "are much smaller (16 x 12 pixels) than"),
        ((96, 128), {"in_pixels": True}, "have another size (128 x 96 pixels) than"),
        ((96, 128), {}, None),
    ],
)
def test_other_formats_are_named(shape, options, words):
    found = warnings(part(shape=shape), **options)
    assert len(found) == (words is not None)
    assert words is None or (words in found[0] and f"{GOLDEN} (64 x 48): " in found[0])


def test_odd_ones_among_many_are_named_but_not_in_a_mixed_set():
    shapes = [(48, 64)] * 19 + [(64, 48)]
    images = [part(shape=shape, seed=seed) for seed, shape in enumerate(shapes)]
    (found,) = warnings(*images, known=[look_of(image) for image in images])
    assert found.startswith("1 of 20 images, 19.png first, have other proportions")
    mixed = [part(shape=shape) for shape in ((48, 64), (64, 48), (64, 64)) * 4]
    assert warnings(*mixed, known=[look_of(image) for image in mixed]) == []


def test_products_that_differ_are_compared_apart():
    large = {f"nut/{seed}.png": look_of(part(shape=(480, 640), seed=seed)) for seed in range(8)}
    small = {f"bolt/{seed}.png": look_of(part(seed=seed)) for seed in range(3)}
    looks = {**large, **small, "nut/8.png": look_of(part(seed=9))}
    options = {"in_pixels": False, "stretched": True}
    (together,) = odd_ones(looks, **options)
    assert together.startswith("4 of 12 images, bolt/0.png first, are much smaller")
    (apart,) = odd_ones(looks, apart=True, **options)
    assert apart.startswith(
        "1 of 9 images, nut/8.png first, are much smaller (64 x 48 pixels) than the others (640 x 480)"
    )


LEARNT = [Size(960, 1280)] * 3


@pytest.mark.parametrize(
    ("given", "known", "options", "what"),
    [
        (Size(960, 1280), LEARNT, {}, None),
        (Size(480, 640), LEARNT, {}, None),  # resized by the camera
        (Size(470, 640), LEARNT, {}, None),
        (Size(400, 640), LEARNT, {}, "proportions"),
        (Size(400, 640), LEARNT, {"stretched": False}, None),  # filled up
        (Size(470, 620), LEARNT, {}, "small"),
        (Size(480, 640), LEARNT, {"in_pixels": True}, "size"),
        (Size(960, 1280), LEARNT, {"in_pixels": True}, None),
        # Of what was learnt in several sizes none is the camera's, and of several proportions neither.
        (Size(300, 400), [*LEARNT, Size(480, 640)], {}, None),
        (Size(480, 640), [*LEARNT, Size(1200, 1600)], {"in_pixels": True}, None),
        (Size(400, 640), [*LEARNT, Size(480, 640)], {"in_pixels": True}, "proportions"),
        (Size(300, 300), [Size(960, 1280), Size(1280, 960), Size(960, 960)], {}, None),
    ],
)
def test_frames_that_do_not_fit_are_found_as_images_are(given, known, options, what):
    options = {"in_pixels": False, "stretched": True, **options}
    found = misfit(given, known, **options)
    assert (found and found.what) == what
    assert found is None or found.in_proportions is (given == Size(400, 640))
    if len(set(known)) == 1:
        image = np.zeros((int(given.height), int(given.width), 3), np.uint8)
        looks = [look_of(np.zeros((int(size.height), int(size.width), 3), np.uint8)) for size in known]
        assert (likeness_warnings({"a.png": look_of(image)}, looks, GOLDEN, **options) != []) is (what is not None)
