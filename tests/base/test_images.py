"""Images from files and arrays, with real files of every format, whole and broken."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.images.files import IMAGE_SUFFIXES, ImageError, _warn_of_few_bits, as_bgr, list_images, load_image

RNG = np.random.default_rng(7)
IMAGE = cv2.GaussianBlur(RNG.integers(0, 255, (120, 160, 3), np.uint8), (0, 0), 2)
FORMATS = [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"]


def write(path, image, parameters=()):
    ok, data = cv2.imencode(path.suffix, image, parameters)
    assert ok
    path.write_bytes(data.tobytes())
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_colour_image_is_read_as_bgr(tmp_path, suffix):
    image = load_image(write(tmp_path / f"part{suffix}", IMAGE))
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.abs(image.astype(int) - IMAGE).mean() < 4  # jpeg and webp lose a little


@pytest.mark.parametrize("name", ["Gehäuse 3.png", "部品.jpg", "деталь.bmp"])
def test_names_may_hold_any_character(tmp_path, name):
    assert load_image(write(tmp_path / name, IMAGE)).shape == IMAGE.shape


def test_grey_alpha_and_16_bit_are_handled(tmp_path):
    grey = IMAGE[:, :, 0]
    assert (load_image(write(tmp_path / "grey.png", grey)) == grey[:, :, None]).all()
    alpha = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 9, np.uint8)])
    assert (load_image(write(tmp_path / "alpha.png", alpha)) == IMAGE).all()
    for suffix in (".png", ".tiff"):
        assert (load_image(write(tmp_path / f"deep{suffix}", IMAGE.astype(np.uint16) * 257)) == IMAGE).all()
        assert (load_image(write(tmp_path / f"deep_grey{suffix}", grey.astype(np.uint16) * 257))[:, :, 2] == grey).all()
    deep_alpha = np.dstack([IMAGE.astype(np.uint16) * 257, np.full(IMAGE.shape[:2], 99, np.uint16)])
    assert (load_image(write(tmp_path / "deep_alpha.png", deep_alpha)) == IMAGE).all()


def test_values_of_12_bits_in_16_are_called_nearly_black_once(caplog):
    _warn_of_few_bits.cache_clear()
    for bits in (16, 12, 12):
        as_bgr(np.full((4, 4), (1 << bits) - 1, np.uint16))
    assert len(caplog.messages) == 1 and "multiply values of 12 bits by 16" in caplog.text


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path, capfd, suffix, part):
    whole = write(tmp_path / f"whole{suffix}", IMAGE).read_bytes()
    path = tmp_path / f"part{suffix}"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ImageError, match=f"part{suffix}: "):
        load_image(path)
    if suffix in (".png", ".jpg"):
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("parameters", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)])
def test_a_jpeg_is_whole_only_with_its_end_mark(tmp_path, parameters):
    path = write(tmp_path / "part.jpg", IMAGE, parameters)
    data = path.read_bytes()
    assert load_image(path).shape == IMAGE.shape
    path.write_bytes(data + b"trailer of a camera")
    assert load_image(path).shape == IMAGE.shape
    # A thumbnail inside a segment ends with an end mark of its own.
    thumbnail = b"\xff\xe1" + (len(data[:500]) + 4).to_bytes(2, "big") + data[:500] + b"\xff\xd9"
    path.write_bytes(data[:2] + thumbnail + data[2:])
    assert load_image(path).shape == IMAGE.shape
    path.write_bytes(data[:2] + thumbnail + data[2 : len(data) // 2])
    with pytest.raises(ImageError, match="truncated JPEG"):
        load_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_a_file_whose_tail_was_never_written_is_refused(tmp_path, suffix):
    path = write(tmp_path / f"part{suffix}", IMAGE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(ImageError, match="part"):
        load_image(path)


def test_a_flipped_bit_in_a_png_is_found(tmp_path):
    path = write(tmp_path / "part.png", IMAGE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match="part.png: damaged PNG: wrong checksum"):
        load_image(path)


def test_files_that_are_no_images_say_what_was_found(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    cv2.imwrite(str(tmp_path / "float.tiff"), IMAGE.astype(np.float32))
    for name, what in {
        "empty.png": "empty",
        "text.png": "not an image",
        "folder.png": "cannot be read",
        "missing.png": "no such file",
        "float.tiff": "found float32",
    }.items():
        with pytest.raises(ImageError, match=f"{name}: .*{what}"):
            load_image(tmp_path / name)


def test_a_folder_is_listed_in_natural_order(tmp_path):
    names = ["part1.png", "part2.PNG", "part10.jpg", "part10a.bmp", "Part11.tif"]
    for name in ["notes.txt", ".part3.png", *reversed(names)]:
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == names
    assert ".png" in IMAGE_SUFFIXES


def test_masks_are_not_listed_as_parts(tmp_path):
    for place in ("dent", "ground_truth/dent"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.png").touch()
    assert list_images(tmp_path, below=True) == [tmp_path / "dent" / "0.png"]
    assert list_images(tmp_path / "ground_truth" / "dent") == [tmp_path / "ground_truth" / "dent" / "0.png"]


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "missing")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "part.png").touch()
    with pytest.raises(ImageError, match="no images found.*1 lie in folders below"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="not a folder"):
        list_images(tmp_path / "below" / "part.png")


def test_a_normal_array_is_not_copied():
    assert as_bgr(IMAGE) is IMAGE or np.shares_memory(as_bgr(IMAGE), IMAGE)
    flipped = IMAGE[:, ::-1]
    assert (as_bgr(flipped) == flipped).all() and as_bgr(flipped).flags.c_contiguous


def test_arrays_of_other_layouts_are_converted():
    grey = IMAGE[:, :, 1]
    assert (as_bgr(grey) == grey[:, :, None]).all()
    assert (as_bgr(grey[:, :, None]) == grey[:, :, None]).all()
    assert (as_bgr(np.dstack([IMAGE, grey])) == IMAGE).all()
    deep = np.array([[0, 128, 129, 32767, 65407, 65535]], np.uint16)
    assert as_bgr(deep)[0, :, 0].tolist() == [0, 0, 1, 127, 255, 255]


@pytest.mark.parametrize(
    "array, found",
    [
        (np.zeros((4, 4, 3), np.float32), "float32 from 0 to 0"),
        (np.full((4, 4, 3), np.nan, np.float32), "float32 with 48 values that are NaN"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((3, 8, 8), np.uint8), "move the channels last"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        ([[1, 2]], "found list"),
    ],
)
def test_other_arrays_are_refused_with_what_was_found(array, found):
    with pytest.raises(ImageError, match=found):
        as_bgr(array)
