"""Reading of images from files and arrays, as uint8 BGR (H, W, 3); anything else raises an ImageError.

With `keep_depth` an image of one channel with more than 8 bits is returned as its values: (H, W) uint16 or float32. A
file of four such channels is a pair, see `edgead.images.pairs`: colours and heights, (H, W, 4) float32.
"""

from __future__ import annotations

import hashlib
import logging
import re
import struct
import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from edgead.errors import EdgeadError
from edgead.files.atomic import write_whole
from edgead.images.header import deep_channels, image_size, is_stack
from edgead.images.volume_readers import DICOM_SUFFIX, NIFTI_SUFFIXES, VolumeError
from edgead.images.volumes import is_volume, read_slice, refusal_of, slice_sha256, slices_of, volume_of
from edgead.process.quiet_libraries import quiet_opencv

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(".bmp .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split())

# More than any camera's sensor has, and still within the memory of a small computer.
MAX_MEGAPIXELS = 256.0

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
_JPEG_END = 0xD9
# Inside a scan, ff00 is a stuffed data byte and ffd0..ffd7 are restart marks; anything else is a segment.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


class ImageError(EdgeadError):
    """Image that cannot be used; the message names it and says what is wrong."""


class UnfitImageError(ImageError):
    """Readable image that the model cannot judge, for example because of its size."""


_VIDEOS = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}


def refuse_video(path: Path) -> None:
    """Raise ImageError if a path, given for an image or a folder of images, names a video."""
    if path.suffix.lower() in _VIDEOS and not path.is_dir():
        raise ImageError(
            f"{path}: a video is no image: judge its frames with `edgead stream MODEL {path}`, in Python with "
            f"model.stream({str(path)!r}); to learn from it, take good frames: `ffmpeg -i {path} frames/%06d.png`"
        )


def load_image(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS, keep_depth: bool = False) -> np.ndarray:
    """Read one image file, or one slice of a volume (`edgead.images.volumes`).

    Grey images become three equal channels, an alpha channel is dropped, 16-bit values are divided by 257 (so
    that the full range 0..65535 becomes 0..255) and the orientation in a JPEG's EXIF block is applied.

    Parameters
    ----------
    path : str or Path
        May hold any character that the file system allows.
    max_megapixels : float, optional
        Larger images are refused by their header, before memory is allocated.
    keep_depth : bool, optional
        Return a PNG, TIFF or PGM of one channel with more than 8 bits, or such a slice, as values, a TIFF of points (X,
        Y and Z, 32 bits each) as the Z values, and a PNG or TIFF of four channels with more than 8 bits as a pair of
        colours and heights.

    Returns
    -------
    image_bgr : ndarray of shape (H, W, 3), uint8, BGR, C order
        With `keep_depth`, for such a file: values, (H, W), uint16 or float32; for four channels, a pair.

    Raises
    ------
    ImageError
        The file is missing, empty, truncated, damaged, too large, a video or no image that OpenCV can read.
    """
    path = Path(path)
    refuse_video(path)
    if volume_of(path) is not None:
        return _load_slice(path, max_megapixels, keep_depth)
    if is_volume(path):
        raise ImageError(f"{path}: {refusal_of(path)}")
    if path.suffix.lower() == DICOM_SUFFIX:
        raise ImageError(f"{path}: a DICOM file is a slice of a series: name the folder that the series lies in")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return decode_image(data, max_megapixels=max_megapixels, keep_depth=keep_depth)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _load_slice(path: Path, max_megapixels: float, keep_depth: bool) -> np.ndarray:
    try:
        values = read_slice(path)
        check_size(values.shape, max_megapixels)
        if keep_depth and has_depth(values):
            return values
        if values.dtype == np.float32:
            raise ImageError("its voxels are floats, or have a slope or a sign: learn them with --input grey16")
        return as_bgr(values)
    except (VolumeError, ImageError) as error:
        raise ImageError(f"{path}: {error}") from error


def file_sha256(path: Path) -> str:
    """Hash the content of an image file; for a slice, hash the volume's content and the slice's number.

    Raises ImageError: a volume cannot be read.
    Raises OSError: a file cannot be read.
    """
    if volume_of(path) is None:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        return slice_sha256(path)
    except VolumeError as error:
        raise ImageError(f"{path}: {error}") from error


def decode_image(data: bytes, *, max_megapixels: float = MAX_MEGAPIXELS, keep_depth: bool = False) -> np.ndarray:
    """Decode the bytes of one image file; see `load_image`.

    Raises ImageError: the bytes are empty, truncated, damaged, too large or no image that OpenCV can read.
    """
    if not data:
        raise ImageError("the file is empty (0 bytes); copy it again")
    # OpenCV 4 fills the missing part of a truncated JPEG with grey, which would then be learned or
    # rejected as a defect: completeness is checked here, before decoding.
    problem = _problem_in(data)
    if problem:
        raise ImageError(f"{problem}; copy it again")
    size = image_size(data)
    if size is None:
        raise ImageError(f"not an image (JPEG, PNG, BMP, TIFF, PNM or WebP), or damaged ({len(data)} bytes found)")
    check_size(size, max_megapixels)
    if is_stack(data):
        raise ImageError("a TIFF with several pages is a volume: give it as a file, where each page is a slice")
    kept = deep_channels(data) if keep_depth else 0
    how = cv2.IMREAD_UNCHANGED if kept else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error as error:
        raise ImageError(f"OpenCV refuses it: {error.err}") from error
    if image is None:
        raise ImageError(f"not an image that OpenCV can read, or damaged ({len(data)} bytes found)")
    if kept == 4:
        return _as_pair(image)
    # OpenCV turns RGB into BGR, and X, Y and Z into Z, Y and X.
    return as_values(image[..., 0] if kept == 3 else image) if kept else as_bgr(image)


def check_size(size: tuple[int, int], max_megapixels: float) -> None:
    """Raise ImageError if an image of height and width `size` has more than `max_megapixels` million pixels."""
    height, width = size
    if height * width > max_megapixels * 1e6:
        raise ImageError(
            f"{width} x {height} pixels are {height * width / 1e6:.4g} megapixels, at most {max_megapixels:g} are "
            "taken: give smaller images, or raise max_megapixels of the camera"
        )


def write_image(path: Path, image: np.ndarray, *, durable: bool = False) -> None:
    """Write an image, making its folder; the suffix of `path` picks the format.

    The file is written under another name and renamed, so that no incomplete file is left; `durable` waits until it is
    on the disk.

    Raises ImageError: the suffix is unknown.
    Raises OSError: the file cannot be written.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(f"{path}: an image ends in one of {' '.join(sorted(IMAGE_SUFFIXES))}")
    data = cv2.imencode(path.suffix, storable(image))[1].tobytes()
    write_whole(path, data, durable=durable)


def list_images(folder: str | Path, *, below: bool = False) -> list[Path]:
    """List the images directly inside a folder, in natural order (part2 before part10); volumes are listed as slices.

    A folder of DICOM files is a volume itself.

    `below`: include all folders below it, except masks in folders `ground_truth`.
    Raises ImageError: the folder is missing, is no folder, or holds no file with one of `IMAGE_SUFFIXES` and no volume.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ImageError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise ImageError(f"{folder}: not a folder")
    found = slices_of(folder) if is_volume(folder) else []
    for entry in sorted(folder.rglob("*") if below else folder.iterdir(), key=natural_key):
        if "ground_truth" in entry.relative_to(folder).parts:
            continue
        if is_volume(entry):
            found += slices_of(entry)
        elif is_image_path(entry) and entry.is_file():
            found.append(entry)
    if not found:
        known = [*sorted(IMAGE_SUFFIXES), *NIFTI_SUFFIXES, DICOM_SUFFIX]
        deeper = 0 if below else sum(1 for entry in folder.rglob("*") if is_image_path(entry))
        hint = f"; {deeper} lie in folders below it: name one of those" if deeper else ""
        raise ImageError(f"{folder}: no images found (looked for {' '.join(known)}){hint}")
    return found


def is_image_path(path: str | Path) -> bool:
    """Whether a path names an image by its suffix; hidden files do not count."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def natural_key(path: str | Path) -> tuple:
    """Sort key that orders runs of digits by their value."""
    text = str(path)
    parts = re.split(r"([0-9]+)", text)
    # Odd positions are digits, so that numbers are only compared with numbers; the text itself breaks ties.
    return tuple(int(part) if i % 2 else part.lower() for i, part in enumerate(parts)), text


@cache
def _warn_of_few_bits() -> None:
    logger.warning(
        "an image of 16 bits has values below 4096 alone, and is judged nearly black: multiply values of 12 bits by "
        "16, of 8 bits by 257, or learn with --input grey16"
    )


def as_bgr(array: np.ndarray) -> np.ndarray:
    """Convert an image array to uint8 BGR (H, W, 3) in C order, without a copy if it already is.

    `array` (ndarray of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16): colour is BGR or BGRA, as in
        OpenCV. uint16 values are assumed to use the full range; the first image that uses only 12 bits is logged.
    Raises ImageError: any other type, shape or number of channels, and empty images.
    """
    if not isinstance(array, np.ndarray):
        raise ImageError(no_array(array))
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = "; move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ImageError(f"an image must be (H, W), (H, W, 3) or (H, W, 4), found shape {array.shape}{hint}")
    if array.size == 0:
        raise ImageError(f"an image must have at least one pixel, found shape {array.shape}")
    if array.dtype == np.uint16:
        if array.max() < 1 << 12:
            _warn_of_few_bits()
        # Rounded to nearest; done in 32 bits because 65535 + 128 does not fit in 16.
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(_wrong_dtype(array))
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


def as_values(array: np.ndarray) -> np.ndarray:
    """Convert an array of one channel to values, (H, W) uint16 or float32 in C order, without a copy if possible.

    `array`: ndarray of shape (H, W) or (H, W, 1), uint16, float32 or float64.
    Raises ImageError: any other type or shape, and empty images.
    """
    if not isinstance(array, np.ndarray):
        raise ImageError(no_array(array))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or array.dtype not in (np.uint16, np.float32, np.float64) or not array.size:
        raise ImageError(
            f"an image of 16 bits or floats must be (H, W) of uint16 or float32, found {array.dtype} of shape "
            f"{array.shape}"
        )
    return np.ascontiguousarray(array, np.uint16 if array.dtype == np.uint16 else np.float32)


def has_depth(image: np.ndarray) -> bool:
    """Whether an image holds the values of one channel, or a pair, and not 8-bit colours."""
    return (image.ndim == 2 and image.dtype != np.uint8) or is_pair(image)


def is_pair(image: np.ndarray) -> bool:
    """Whether an array is a pair of colours and heights, (H, W, 4) of floats; see `edgead.images.pairs`."""
    return image.ndim == 3 and image.shape[2] == 4 and image.dtype.kind == "f"


def lossless_suffix(image: np.ndarray) -> str:
    """Suffix of a lossless file format for an image: TIFF for floats, else PNG."""
    return ".tiff" if image.dtype.kind == "f" else ".png"


def storable(image: np.ndarray) -> np.ndarray:
    """Convert a pair whose heights are 16-bit counts to uint16 for writing; return any other image as it is."""
    if not is_pair(image) or not ((image >= 0) & (image <= (255, 255, 255, 65535)) & (image == np.rint(image))).all():
        return image
    return (image * np.array([257, 257, 257, 1], np.float32)).astype(np.uint16)


def _as_pair(image: np.ndarray) -> np.ndarray:
    """Convert the four channels of a file to a pair; 16-bit colours are divided by 257."""
    if image.ndim != 3 or image.dtype not in (np.uint16, np.float32):
        raise ImageError(f"colours with heights are 16 bits or floats in four channels, found {image.dtype}")
    if image.dtype == np.float32:
        return image
    pair = image.astype(np.float32)
    pair[..., :3] = as_bgr(image)
    return pair


def visible_values(values: np.ndarray) -> np.ndarray:
    """Render values, (H, W) uint16 or float32, of unknown range: uint8 BGR.

    uint16 is divided by 257, as in `as_bgr`; floats are scaled from lowest to highest, NaN and infinity are black.
    """
    if values.dtype == np.uint16:
        return as_bgr(values)
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 0.0)
    shown = np.where(known, (values - low) * (255 / ((high - low) or 1.0)), 0)
    return as_bgr(shown.astype(np.uint8))


def no_array(thing: object) -> str:
    """Message for an argument that is no array: its type, and how to read an image."""
    found = f"an image must be a numpy array, found {type(thing).__name__}"
    if thing is None:
        return f"{found}: cv2.imread gives None when it cannot read the file; edgead.load_image says why"
    return f"{found}: read it with edgead.load_image" if isinstance(thing, (str, Path)) else found


def _wrong_dtype(array: np.ndarray) -> str:
    found = f"an image must be uint8 or uint16, found {array.dtype}"
    if not np.issubdtype(array.dtype, np.floating):
        return f"{found}; convert it to uint8 with values 0 to 255"
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        return f"{found} with {bad} values that are NaN or infinite"
    first = "multiply it by 255, then " if array.size and array.max() <= 1 else ""
    return f"{found} from {array.min():g} to {array.max():g}; {first}convert it to uint8 with values 0 to 255"


def _problem_in(data: bytes) -> str | None:
    if data.startswith(_PNG_START):
        return _png_problem(data)
    if data.startswith(_JPEG_START):
        return _jpeg_problem(data)
    return None  # OpenCV itself refuses incomplete files of other formats


def _png_problem(data: bytes) -> str | None:
    """Walk the chunks: each has a length, a type, its data and a CRC (PNG specification, section 5.3)."""
    at = len(_PNG_START)
    view = memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"damaged PNG: wrong checksum at byte {at} of {len(data)}"
        if kind == b"IEND":
            return None
        at = end + 4
    return f"truncated PNG: it ends after {len(data)} bytes without its end mark"


def _jpeg_problem(data: bytes) -> str | None:
    """Walk the segments to the end mark (ITU-T T.81, annex B); the end mark of a thumbnail is inside a segment."""
    at = len(_JPEG_START)
    while found := _JPEG_MARKER.search(data, at):
        marker = found[1][0]
        at = found.end()
        if marker == _JPEG_END:
            return None
        if marker != 0x01:  # TEM has no length
            if at + 2 > len(data):
                break
            at += struct.unpack_from(">H", data, at)[0]
    return f"truncated JPEG: it ends after {len(data)} bytes without its end mark"
