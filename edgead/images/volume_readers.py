"""Readers of volumes: TIFF of several pages by OpenCV, NIfTI by nibabel, DICOM series by pydicom.

Each reads the headers first and refuses volumes that are too large; then voxels are read slice by slice. Slopes and
intercepts in a file are applied.
"""

from __future__ import annotations

import gzip
import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from edgead.errors import EdgeadError
from edgead.files.regular_files import UnreadableFileError, open_regular, read_regular
from edgead.images.header import is_stack, tiff_pages
from edgead.process.installation import install_command
from edgead.process.quiet_libraries import quiet_opencv

NIFTI_SUFFIXES = (".nii", ".nii.gz")
TIFF_SUFFIXES = (".tif", ".tiff")
DICOM_SUFFIX = ".dcm"

MAX_SLICES = 16_384
MAX_SIDE = 16_384
MAX_VOXELS = 1 << 30
"""1024 Most voxels of a volume, 1024 x 1024 x 1024: 4 GiB of floats, on the disk while they are in use."""
_MAX_BYTES = 16 << 30
_MAX_DICOM_BYTES = 256 << 20  # file size of one slice
_MAX_EXTENSIONS = 16 << 20  # bytes before the voxels of a NIfTI file
_CHUNK = 16  # pages of a TIFF that are decoded at once
# Allowed encodings of DICOM pixels: none, or run lengths. A deflated data set could unpack to any size.
_DICOM_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")


class VolumeError(EdgeadError):
    """Volume that cannot be used; the message gives the reason without the volume's name."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Content of a volume's headers: number, height, width and data type of its slices, and a function that reads them.

    `dtype` is uint8, uint16 or float32; `slices` yields each slice, (H, W), and raises VolumeError.
    """

    shape: tuple[int, int, int]
    dtype: type
    slices: Callable[[], Iterator[np.ndarray]]


def has_pages(file: Path) -> bool:
    """Whether a TIFF file is a stack, with two equal first pages; a photograph with its thumbnail is no stack."""
    try:
        with _mapped(file) as data:
            return is_stack(data)
    except UnreadableFileError:
        return False  # reading the file reports the reason


@contextmanager
def _mapped(file: Path) -> Iterator[bytes]:
    with open_regular(file, _MAX_BYTES) as (stream, found):
        if not found.st_size:
            raise UnreadableFileError("is empty (0 bytes); copy it again")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data  # type: ignore[misc]  # read as bytes are


def open_tiff(file: Path) -> Stack:
    with _named_errors("is no TIFF that can be read"), _mapped(file) as data:
        pages = tiff_pages(data, most=MAX_SLICES + 1)
    if pages is None:
        raise VolumeError("is truncated or damaged: not all of its pages are there; copy it again")
    if len(set(pages)) > 1:
        raise VolumeError("has pages of several sizes or kinds: a volume's are all alike")
    page = pages[0]
    if page.channels != 1:
        raise VolumeError(f"has {page.channels} channels: a volume has one value a voxel")
    shape = _checked(len(pages), page.height, page.width)
    dtype = {8: np.uint8, 16: np.uint16}.get(page.bits, np.float32) if page.numbers == 1 else np.float32

    def slices() -> Iterator[np.ndarray]:
        data = np.memmap(file, np.uint8, "r")
        for first in range(0, shape[0], _CHUNK):
            wanted = range(first, min(first + _CHUNK, shape[0]))
            try:
                with quiet_opencv():
                    _, found = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(wanted.start, wanted.stop))
            except cv2.error as error:
                raise VolumeError(f"OpenCV refuses it: {error.err}") from error
            if len(found) != len(wanted):
                raise VolumeError(f"page {first + len(found)} is truncated or damaged; copy it again")
            yield from found

    return Stack(shape, dtype, slices)


def open_nifti(file: Path) -> Stack:
    """Open a NIfTI file: slices from feet to head, rows from front to back, columns from left to right, if it tells."""
    nibabel: Any = _library("nibabel")
    with _named_errors("is no NIfTI file that can be read"), _unpacked(file) as stream:
        head = stream.read(540)
        version = (
            nibabel.Nifti2Header if 540 in struct.unpack_from("<i", head) + struct.unpack_from(">i", head) else None
        )
        header = version(head) if version else nibabel.Nifti1Header(head[:348])
        if bytes(header["magic"])[:2] != b"n+":
            raise VolumeError("is not one NIfTI file with header and voxels (magic n+1 or n+2)")
        sides = [int(side) for side in header.get_data_shape()]
        kind = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        start = int(header["vox_offset"])
        turned = nibabel.io_orientation(header.get_best_affine())
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) != 3:
        raise VolumeError(f"has {len(sides)} axes, {'x'.join(map(str, sides))}: a volume has 3; give one time at once")
    if kind.fields is not None or kind.kind not in "uif":
        raise VolumeError(f"has voxels of {kind}: a volume has one number a voxel")
    if not 348 < start <= _MAX_EXTENSIONS:
        raise VolumeError(f"says that its voxels begin at byte {start}, which no header takes")
    _checked(sides[2], sides[1], sides[0])
    if np.isnan(turned).any():
        raise VolumeError("says that an axis has no direction: write its affine again")
    scaled = slope is not None and (slope, intercept) != (1, 0)
    shape = _checked(*(sides[int(axis)] for axis in np.argsort(turned[:, 0])[::-1]))

    def slices() -> Iterator[np.ndarray]:
        with tempfile.TemporaryFile() as voxels:
            size = kind.itemsize * int(np.prod(sides, dtype=np.int64))
            with _named_errors("cannot be read"), _unpacked(file) as stream:
                stream.seek(start)
                _copy(stream, voxels, size)
            raw = np.memmap(voxels, kind, "r", shape=tuple(sides), order="F")
            upright = nibabel.apply_orientation(raw, turned)
            for number in range(shape[0]):
                one = upright[:, ::-1, number].T
                yield one * slope + intercept if scaled else one

    unsigned = kind.kind == "u" and not scaled
    return Stack(shape, {1: np.uint8, 2: np.uint16}.get(kind.itemsize, np.float32) if unsigned else np.float32, slices)


def open_dicom(folder: Path) -> Stack:
    """Open a DICOM series: slices ordered along their normal by position, or else by number."""
    pydicom: Any = _library("pydicom")
    files = dicom_files(folder)
    if len(files) > MAX_SLICES:
        raise VolumeError(f"has {len(files)} slices, at most {MAX_SLICES} are read")
    headers = [_dicom(pydicom, file, only_header=True) for file in files]
    with _named_errors("has slices that cannot be read"):  # elements are parsed on access
        series = {str(header.get("SeriesInstanceUID", "")) for header in headers}
        if len(series) > 1:
            raise VolumeError(f"holds {len(series)} series: give each a folder of its own")
        shapes = {(int(header.Rows), int(header.Columns)) for header in headers}
        if len(shapes) > 1:
            raise VolumeError(f"holds slices of {len(shapes)} sizes: give each series a folder of its own")
        shape = _checked(len(files), *shapes.pop())
        order = _dicom_order(headers)
        kinds = {(*_rescale(one), int(one.PixelRepresentation), int(one.BitsAllocated)) for one in headers}
    plain = kinds == {(1.0, 0.0, 0, 16)}

    def slices() -> Iterator[np.ndarray]:
        for number in order:
            found = _dicom(pydicom, files[number], only_header=False)
            with _named_errors(f"has a slice whose pixels cannot be read, {files[number].name}"):
                pixels = found.pixel_array
                slope, intercept = _rescale(found)
            yield pixels if plain else pixels * slope + intercept

    return Stack(shape, np.uint16 if plain else np.float32, slices)


def dicom_files(folder: Path) -> list[Path]:
    """List the files of a folder with a DICOM suffix, except hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names = [one.name for one in entries if one.name.lower().endswith(DICOM_SUFFIX) and one.name[0] != "."]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _dicom(pydicom: Any, file: Path, *, only_header: bool) -> Any:
    with _named_errors(f"has a slice that is no DICOM file, {file.name}"):
        data = read_regular(file, _MAX_DICOM_BYTES)
        syntax = str(pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID", ""))
        if syntax not in _DICOM_PLAIN:
            name = pydicom.uid.UID(syntax).name or "nothing"
            raise VolumeError(
                f"has slices that are compressed ({name}): write them plainly first, as `gdcmconv --raw` or "
                "`dcmdjpeg` does"
            )
        # Parsed from memory: a false length of an element cannot allocate more than the file has.
        found = pydicom.dcmread(BytesIO(data), stop_before_pixels=only_header)
        if int(found.SamplesPerPixel) != 1 or int(found.get("NumberOfFrames", 1) or 1) != 1:
            raise VolumeError(f"has colours, or several frames in one file, {file.name}: give a file a slice")
        if "ModalityLUTSequence" in found:
            raise VolumeError(f"has values by a table, {file.name}: write them with slope and intercept")
        if not (0 < int(found.Rows) <= MAX_SIDE and 0 < int(found.Columns) <= MAX_SIDE):
            raise VolumeError(f"says it has {found.Columns} x {found.Rows} pixels, {file.name}")
        _ = int(found.BitsAllocated), int(found.PixelRepresentation), _rescale(found)
        return found


def _rescale(found: Any) -> tuple[float, float]:
    slope, intercept = float(found.get("RescaleSlope", 1)), float(found.get("RescaleIntercept", 0))
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise ValueError("slope or intercept is no number")
    return slope, intercept


def _dicom_order(headers: list[Any]) -> list[int]:
    """Order slices by position along their normal; duplicates, and gaps from lost slices, are refused."""
    if all("ImagePositionPatient" in one and "ImageOrientationPatient" in one for one in headers):
        across, down = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
        normal = np.cross(across, down)
        places = [float(np.dot(normal, np.array(one.ImagePositionPatient, float))) for one in headers]
    else:
        places = [float(one.InstanceNumber) for one in headers]
    order = np.argsort(places, kind="stable")
    steps = np.diff(np.array(places)[order])
    if not np.isfinite(places).all() or (len(steps) and steps.min() <= 0):
        raise VolumeError("has two slices at one place: give each series, and each time, a folder of its own")
    if len(steps) and steps.max() > 1.5 * np.median(steps):
        lost = int(np.argmax(steps))
        raise VolumeError(
            f"lacks slices between {headers[order[lost]].get('InstanceNumber', lost)} and "
            f"{headers[order[lost + 1]].get('InstanceNumber', lost + 1)}, where the distance is "
            f"{steps[lost] / np.median(steps):.3g} times the usual one: copy the series again"
        )
    return [int(number) for number in order]


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise VolumeError(f"needs {name}, which is not installed: `{install_command('volumes')}`") from None


def _checked(slices: int, height: int, width: int) -> tuple[int, int, int]:
    if not (0 < slices <= MAX_SLICES and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise VolumeError(f"says it has {slices} slices of {width} x {height} pixels: that is no volume that is read")
    if slices * height * width > MAX_VOXELS:
        raise VolumeError(
            f"has {slices} slices of {width} x {height} pixels, {slices * height * width / 1e6:.4g} million voxels: at "
            f"most {MAX_VOXELS / 1e6:.4g} million are read; cut it, or shrink it"
        )
    return slices, height, width


@contextmanager
def _named_errors(what: str) -> Iterator[None]:
    """Convert a reader's errors on damaged bytes to a VolumeError that begins with `what`."""
    try:
        yield
    except VolumeError:
        raise
    except UnreadableFileError as error:
        raise VolumeError(str(error)) from error
    except Exception as error:  # noqa: BLE001  readers raise nearly anything of bytes that nobody wrote in good faith
        said = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        cause = "" if getattr(error, "errno", None) else ": it is truncated or damaged; copy it again"
        raise VolumeError(f"{what} ({said}){cause}") from error


@contextmanager
def _unpacked(file: Path) -> Iterator[BinaryIO]:
    """Open a NIfTI file, decompressed if it is compressed."""
    with open_regular(file, _MAX_BYTES) as (stream, _):
        if file.name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield unpacked  # type: ignore[misc]  # it is one to whoever reads
        else:
            yield stream


def _copy(source: BinaryIO, target: Any, size: int) -> None:
    """Copy `size` bytes, as the header states; data beyond them in a compressed file is never unpacked."""
    left = size
    while left:
        chunk = source.read(min(left, 1 << 20))
        if not chunk:
            raise VolumeError(f"is truncated: {left} of {size} bytes of voxels are missing; copy it again")
        target.write(chunk)
        left -= len(chunk)
    target.flush()
