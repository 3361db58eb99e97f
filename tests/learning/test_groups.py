"""Which images belong together: by rule, by content, by name, by time; and what is held out keeps groups whole."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.dataset.folders import deal_groups, split_good
from edgead.dataset.groups import by_counter, by_stem, by_time, capture_time, group_images, leak_warning, leaks, runs
from edgead.dataset.near_duplicates import near_duplicates, thumbnail
from edgead.errors import SettingsError
from edgead.images.files import load_image


def texture(seed: int, *, size: int = 160) -> np.ndarray:
    """A part's own structure, mean 0."""
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3) * 250


def write(path: Path, image: np.ndarray) -> Path:
    cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    return path


def exposures(folder: Path, parts: int, each: int, *, common: float = 0.0, shift: int = 3) -> list[Path]:
    """Parts under several exposures and shifts; `common` is what all parts share, as in a fixture."""
    shared = common * texture(999)
    paths = []
    for part in range(parts):
        image = texture(part) + shared
        for shot in range(each):
            rng = np.random.default_rng((part, shot))
            moved = np.roll(image, rng.integers(-shift, shift + 1, size=2), axis=(0, 1))
            seen = (60 + 30 * shot) + (0.5 + 0.25 * shot) * moved + rng.normal(0, 2, image.shape)
            paths.append(write(folder / f"{'abcdefgh'[shot]}{part}.png", seen))
    return paths


def test_exposures_of_a_part_are_found(tmp_path):
    paths = exposures(tmp_path, 12, 3)
    found = set(near_duplicates(paths))
    assert found == {(3 * p + i, 3 * p + j) for p in range(12) for i in range(3) for j in range(i + 1, 3)}
    groups = group_images(paths)
    assert groups.count == 12
    assert groups.of(paths) == [p for p in range(12) for _ in range(3)]
    assert "12 groups of 36 images: 36 pairs of near-duplicates by content; largest 3" in groups.account


@pytest.mark.parametrize(("common", "shift"), [(2.0, 0), (5.0, 0), (2.0, 3)])
def test_images_of_different_parts_in_one_fixture_are_not_joined(tmp_path, common, shift):
    paths = exposures(tmp_path, 40, 1, common=common, shift=shift)
    plain = np.corrcoef([thumbnail(load_image(path)).ravel() for path in paths])
    assert np.median(plain) > 0.3, "what they share is not seen"
    assert near_duplicates(paths) == []


def test_in_a_set_that_correlates_only_the_same_image_is_joined(tmp_path):
    """Two kinds of rests, of which each image has some of both: correlation among all pairs is wide."""
    paths = []
    for part in range(30):
        angle = np.random.default_rng(part).uniform(0, 2 * np.pi)
        image = 128 + np.cos(angle) * texture(1) + np.sin(angle) * texture(2) + texture(part + 10)
        paths.append(write(tmp_path / f"{part}.png", image))
    again = write(tmp_path / "again.png", 20 + 0.8 * cv2.imread(str(paths[4]), 0).astype(float))
    assert near_duplicates([*paths, again]) == [(4, 30)]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_images(tmp_path, count):
    paths = [write(tmp_path / f"{i}.png", 128 + texture(i)) for i in range(count)]
    assert near_duplicates(paths) == []
    if count == 2:
        assert near_duplicates([paths[0], write(tmp_path / "c.png", 100 + 0.6 * texture(0))]) == [(0, 1)]


def named(names: list[str]) -> list[Path]:
    return [Path(name) for name in names]


def test_names_of_a_part_and_an_index():
    paths = named([f"kos{part:02d}_Part{i}.jpg" for part in range(9) for i in range(8)])
    found = by_stem(paths)
    assert found is not None and len(set(found.keys)) == 9 and "9 parts from names such as kos00_Part0" in found.account
    assert by_counter(paths) is None


@pytest.mark.parametrize(
    "names",
    [
        [f"{i:03d}.png" for i in range(60)],
        [f"normal-{i}.jpg" for i in range(60)],
        [f"{12000000 + 7 * i}_temp.png" for i in range(60)],
        [f"cam{camera}_{i}.png" for camera in range(2) for i in range(40)],  # a stem of two cameras is no part
        [f"exp{i % 6}_num_{37 * i}.jpg" for i in range(60)],
        ["left.png", "right.png"] * 20,
    ],
)
def test_names_that_say_nothing(names):
    assert by_stem(named(names)) is None
    assert by_counter(named(names)) is None


def test_counters_with_clear_gaps():
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.integers(2000, 20000, size=30))
    counters = [int(start + 15 * i + rng.integers(5)) for start in starts for i in range(6)]
    paths = named([f"exp{i % 6}_num_{n}.jpg" for i, n in enumerate(counters)])
    found = by_counter(paths)
    assert found is not None and list(found.keys) == [i // 6 for i in range(180)]


@pytest.mark.parametrize("draw", ["exponential", "lognormal", "geometric", "two long runs"])
def test_gaps_of_one_kind_are_no_groups(draw):
    rng = np.random.default_rng(1)
    gaps = {
        "exponential": np.ceil(rng.exponential(40, 400)),
        "lognormal": np.ceil(rng.lognormal(3, 1.5, 400)),
        "geometric": rng.geometric(0.2, 400).astype(float),
        "two long runs": np.where(np.arange(400) == 200, 1e6, 3.0),
    }[draw]
    assert runs(np.cumsum(gaps)) is None


def exif_jpeg(path: Path, text: str, order: str = "<") -> Path:
    """A JPEG with DateTimeOriginal in its EXIF block."""
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    block += struct.pack(f"{order}HHHII", 1, 0x8769, 4, 1, 26) + struct.pack(f"{order}I", 0)
    block += struct.pack(f"{order}HHHII", 1, 0x9003, 2, 20, 44) + struct.pack(f"{order}I", 0) + text.encode() + b"\0"
    data = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    segment = b"Exif\0\0" + block
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_capture_times(tmp_path, order):
    path = exif_jpeg(tmp_path / "a.jpg", "2024:05:01 12:30:15", order)
    assert cv2.imread(str(path)) is not None
    assert capture_time(path) == 1714566615
    for text in ("0000:00:00 00:00:00", "nonsense of so many."):
        assert capture_time(exif_jpeg(tmp_path / "b.jpg", text, order)) is None
    assert capture_time(write(tmp_path / "c.jpg", texture(0))) is None
    assert capture_time(write(tmp_path / "d.png", texture(0))) is None


def test_images_taken_close_together_belong_together(tmp_path):
    seconds = [200 * part + 2 * shot for part in range(10) for shot in range(3)]
    paths = [
        exif_jpeg(tmp_path / f"{i}.jpg", f"2024:05:01 {s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}")
        for i, s in enumerate(seconds)
    ]
    found = by_time(paths)
    assert found is not None and list(found.keys) == [i // 3 for i in range(30)]
    assert by_time([*paths, write(tmp_path / "x.png", texture(0))]) is None


def test_products_apart(tmp_path):
    """Parts of one product are alike beside those of another, but are different parts."""
    paths = []
    for product in range(8):
        (tmp_path / str(product)).mkdir()
        for part in range(4):
            image = 128 + 2 * texture(900 + product) + texture(100 * product + part)
            paths += [write(tmp_path / str(product) / f"{'ab'[i]}{part}.png", (1 + 0.1 * i) * image) for i in range(2)]
    assert group_images(paths).count < 16
    apart = group_images(paths, "folders")
    assert apart.rule == "folders" and apart.of(paths) == [number // 2 for number in range(64)]
    assert "32 groups of 64 images: 8 folders apart" in apart.account and leaks(apart, paths[1:], paths[:1]) == []


def test_rules_by_name(tmp_path):
    paths = named(["lot7_a.png", "lot7_b.png", "lot12_a.png"])
    assert group_images(paths, "none").of(paths) == [0, 1, 2]
    assert group_images(paths, "none").are_single
    assert group_images(paths, "lot[0-9]+").of(paths) == [0, 0, 1]
    assert group_images(paths, "_(.)").of(paths) == [0, 1, 0]
    with pytest.raises(SettingsError, match="no regular expression .unterminated"):
        group_images(paths, "lot[")
    with pytest.raises(SettingsError, match=r"finds no group in the name lot7_b.png: .* such as '\^"):
        group_images(paths, "_a")


def test_rules_from_a_file(tmp_path):
    data = tmp_path / "data"
    paths = [data / "train" / "good" / name for name in ("0.png", "1.png", "2.png")]
    file = tmp_path / "groups.csv"
    file.write_text("group,path\nA,train/good/0.png\nB,train/good/1.png\nA,elsewhere/2.png\nC,test/good/0.png\n")
    groups = group_images(paths, str(file), data)
    assert groups.of(paths) == [0, 1, 0]
    assert "2 groups of 3 images: from groups.csv; largest 2; one group holds most images" in groups.account
    with pytest.raises(SettingsError, match="does not list the image train/good/3.png: add a row"):
        group_images([*paths, paths[0].with_name("3.png")], str(file), data)
    with pytest.raises(SettingsError, match="gives 2 groups to the name of the image 0.png"):
        group_images(paths, str(file))
    file.write_text("path,part\n")
    with pytest.raises(SettingsError, match="--group .* has no column group; it has path, part: name a file"):
        group_images(paths, str(file), data)
    file.write_text("path,group\n0.png,\n")
    with pytest.raises(SettingsError, match="gives no group to 0.png"):
        group_images(paths, str(file), data)
    with pytest.raises(SettingsError, match="--group missing.csv is missing: name a file"):
        group_images(paths, "missing.csv", data)


def test_a_held_out_image_that_was_learnt_is_named(tmp_path):
    paths = exposures(tmp_path, 10, 2)
    groups = group_images(paths, "none")
    found = leaks(groups, paths[::2], paths[1::2])
    assert len(found) == 10 and found[0] == (paths[1], paths[0])
    assert "10 of 10 held-out images look like learnt ones, b0.png like a0.png first" in leak_warning(found, 10)
    assert leak_warning([], 10) == ""
    assert leaks(group_images(paths), paths[:10], paths[10:]) == []


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(0, 5), st.data())
def test_no_group_is_on_two_sides(keys, seed, data):
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    groups = [numbers[key] for key in keys]
    held_out = data.draw(st.integers(0, len(numbers)))
    paths = [Path(f"{i}.png") for i in range(len(keys))]
    learnt, kept = split_good(paths, held_out, seed, groups)
    of = dict(zip(paths, groups, strict=True))
    assert sorted([*learnt, *kept], key=paths.index) == paths
    assert {of[path] for path in kept}.isdisjoint(of[path] for path in learnt)
    assert len({of[path] for path in kept}) == held_out
    first, second, rest = deal_groups(groups, (held_out // 2, held_out - held_out // 2), seed)
    assert sorted([*first, *second]) == [paths.index(path) for path in kept]
    assert sorted(rest) == [paths.index(path) for path in learnt]


@given(st.integers(1, 80), st.integers(0, 9), st.data())
def test_single_images_are_split_as_ever(count, seed, data):
    held_out = data.draw(st.integers(0, count))
    paths = [Path(f"{i}.png") for i in range(count)]
    order = np.random.default_rng(seed).permutation(count)
    expected = [paths[i] for i in sorted(order[held_out:])], [paths[i] for i in sorted(order[:held_out])]
    assert split_good(paths, held_out, seed) == expected
    assert split_good(paths, held_out, seed, list(range(count))) == expected
