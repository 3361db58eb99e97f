"""Reading of point clouds from TIFF, PLY and PCD files, with bounds on memory.

Files are untrusted: the number of points in a header is compared with the size of the file before memory is allocated.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np

from edgead.errors import SettingsError
from edgead.files.regular_files import UnreadableFileError, open_regular
from edgead.images.files import ImageError, natural_key
from edgead.images.header import image_size
from edgead.process.installation import plugin_command
from edgead.process.quiet_libraries import quiet_opencv

CLOUD_SUFFIXES = (".pcd", ".ply", ".tif", ".tiff")
MAX_POINTS = 50_000_000
_MAX_BYTES = 1 << 31
_HEADER_BYTES = 1 << 16
_PCD_LINES = 10  # most lines of a header
_PCD_NUMBERS = 256  # most numbers of a point
# LZF expands three bytes to at most 264: larger claims are false.
_LZF_RATIO = 88
_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_PLY_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_COLOURS = (("blue", "green", "red"), ("diffuse_blue", "diffuse_green", "diffuse_red"))
_DAMAGED = (ValueError, RuntimeError, KeyError, IndexError, TypeError, OverflowError, EOFError, struct.error)


class Cloud(NamedTuple):
    """Point cloud: floats (n, 3) in the file's unit, NaN for holes; BGR, uint8 (n, 3); grid (h, w) if organised."""

    points: np.ndarray
    colours: np.ndarray | None
    grid: tuple[int, int] | None


def list_clouds(paths: Iterable[Path]) -> list[Path]:
    """List the given files, and the clouds directly inside given folders, in natural order.

    Raises ImageError: a folder has no clouds, or two files would give maps with the same name.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted((one for one in path.iterdir() if one.suffix.lower() in CLOUD_SUFFIXES), key=natural_key)
            if not inside:
                raise ImageError(f"{path}: no point clouds found (looked for {' '.join(CLOUD_SUFFIXES)})")
        found += inside
    by_name: dict[str, Path] = {}
    for path in found:
        if (other := by_name.setdefault(path.stem, path)) != path:
            raise ImageError(f"{other} and {path} would both be written as {path.stem}.tiff: name one folder at a time")
    return found


def load_cloud(path: Path) -> Cloud:
    """Read a point cloud: a TIFF of x, y and z in three channels of floats, PLY or PCD.

    A point with a coordinate that is no number, or at exactly (0, 0, 0), is a hole.

    Raises ImageError: the file is missing, too large, truncated, damaged, holds no point, or claims more points than it
        can hold.
    Raises SettingsError: the library that reads it is not installed.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ImageError(f"{path}: a point cloud ends in one of {' '.join(CLOUD_SUFFIXES)}")
    try:
        with open_regular(path, _MAX_BYTES) as (stream, found), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy's warning on a text without numbers, reported below
            cloud = read(stream, found.st_size)
    except (UnreadableFileError, ImageError) as error:
        raise ImageError(f"{path}: {error}") from error
    holes = ~np.isfinite(cloud.points).all(axis=1) | ~cloud.points.any(axis=1)
    if holes.all():
        raise ImageError(f"{path}: none of its {len(holes)} points has x, y and z")
    cloud.points[holes] = np.nan
    return cloud


def read_tiff(stream: BinaryIO, size: int) -> Cloud:
    """Read an organised cloud as in MVTec 3D-AD: float32 (h, w, 3)."""
    data = stream.read(size)
    found = image_size(data) if data[:2] in (b"II", b"MM") else None
    if found is None:
        raise ImageError(f"no TIFF, or damaged ({size} bytes found)")
    _check_count(found[0] * found[1])
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"OpenCV refuses it: {error.err}") from None
    if image is None:
        raise ImageError(f"truncated or damaged TIFF ({size} bytes found); copy it again")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype.kind != "f":
        raise ImageError(f"a cloud has x, y and z in three channels of floats, found {image.dtype} of {image.shape}")
    points = np.ascontiguousarray(image[:, :, ::-1]).reshape(-1, 3)  # OpenCV takes x, y and z for red, green and blue
    return Cloud(points, None, image.shape[:2])


def read_ply(stream: BinaryIO, size: int) -> Cloud:
    """Read the vertices of a PLY file, text or binary; faces are ignored."""
    head = stream.read(_HEADER_BYTES)
    end = head.find(b"\nend_header")
    begin = head.find(b"\n", end + 1) + 1
    if not head.startswith(b"ply") or end < 0 or not begin:
        raise ImageError(f"no PLY: its header does not end within {min(size, _HEADER_BYTES)} bytes")
    coding, elements = _ply_header(head[:end].decode("ascii", "replace"))
    before = elements[: next((i for i, one in enumerate(elements) if one.name == "vertex"), len(elements))]
    if len(before) == len(elements):
        raise ImageError("no PLY of points: it has no vertices")
    vertex, is_text = elements[len(before)], coding == "ascii"
    if any(one.has_lists for one in (*before, vertex)):
        raise ImageError("its vertices hold lists, or follow what does: write the points alone")
    least = sum(one.number * (2 * len(one.kinds) if is_text else one.dtype.itemsize) for one in (*before, vertex))
    if least > size - begin + is_text:  # the last line of a text may lack its newline
        raise ImageError(f"truncated PLY: it claims {least} bytes of points at least, {size - begin} are there")
    try:
        if is_text:
            stream.seek(begin)
            skipped = sum(one.number for one in before)
            lines = islice(stream, skipped, skipped + vertex.number)
            rows = np.loadtxt(lines, vertex.dtype, comments=None, ndmin=1)
        else:
            stream.seek(begin + sum(one.number * one.dtype.itemsize for one in before))
            rows = np.frombuffer(stream.read(vertex.number * vertex.dtype.itemsize), vertex.dtype)
        points = np.stack([rows[axis] for axis in "xyz"], axis=1)
    except _DAMAGED as error:
        raise ImageError(f"damaged PLY: {error}") from None
    if len(rows) != vertex.number:
        raise ImageError(f"truncated PLY: {len(rows)} of {vertex.number} points found; copy it again")
    found = next((names for names in _COLOURS if all(vertex.kinds.get(name) == "u1" for name in names)), None)
    return Cloud(_as_floats(points), np.stack([rows[name] for name in found], axis=1) if found else None, None)


class _Element(NamedTuple):
    """Element of a PLY file, such as the vertices: count, types of the numbers by name, and byte order."""

    name: str
    number: int
    kinds: dict[str, str]
    order: str

    @property
    def has_lists(self) -> bool:
        return "list" in self.kinds.values()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype([(name, self.order + kind) for name, kind in self.kinds.items()])


def _ply_header(text: str) -> tuple[str, list[_Element]]:
    """Parse the format of a PLY file, and its elements in order."""
    words = [line.split() for line in text.splitlines()]
    coding = next((line[1] for line in words if line[:1] == ["format"] and len(line) == 3), "")
    if coding not in _PLY_ORDERS:
        raise ImageError(f"its format is none of {', '.join(_PLY_ORDERS)}")
    elements: list[_Element] = []
    for line in words:
        if line[:1] == ["element"] and len(line) == 3 and line[2].isdecimal():
            elements.append(_Element(line[1], int(line[2]), {}, _PLY_ORDERS[coding]))
            _check_count(elements[-1].number)
        elif line[:1] == ["property"] and elements and len(line) > 2:
            kind = "list" if line[1] == "list" else _PLY_TYPES.get(line[1])
            if kind is None or line[-1] in elements[-1].kinds:
                raise ImageError(f"damaged PLY: {' '.join(line)!r} has an unknown type, or is there twice")
            elements[-1].kinds[line[-1]] = kind
    return coding, elements


def read_pcd(stream: BinaryIO, size: int) -> Cloud:
    """Read a PCD file, text, binary or compressed, by pypcd4."""
    try:
        import pypcd4
        from pypcd4.pypcd4 import MetaData
    except ImportError:
        raise SettingsError(f"PCD files need pypcd4: {plugin_command('edgead-height[clouds]')}") from None
    try:
        header = MetaData.parse_header(_pcd_header(stream))
        _check_pcd(header, stream, size)
        stream.seek(0)
        found = pypcd4.PointCloud.from_fileobj(stream)  # type: ignore[arg-type]  # a BufferedReader, by `open`
        rows = np.atleast_1d(found.pc_data)
        points = np.stack([rows[axis] for axis in "xyz"], axis=1)
    except ImageError:
        raise
    except _DAMAGED as error:
        raise ImageError(f"damaged PCD: {' '.join(str(error).split())}") from None
    if len(points) != header.points:
        raise ImageError(f"truncated PCD: {len(points)} of {header.points} points found; copy it again")
    packed = next((rows[name] for name in ("rgb", "rgba") if name in (rows.dtype.names or ())), None)
    colours = None
    if packed is not None and packed.dtype.itemsize == 4:  # blue is the lowest of four bytes
        colours = np.ascontiguousarray(packed).astype(packed.dtype.newbyteorder("<")).view(np.uint8).reshape(-1, 4)
        colours = colours[:, :3]
    grid = (header.height, header.width) if header.height > 1 else None
    if grid is not None and grid[0] * grid[1] != header.points:
        raise ImageError(f"damaged PCD: {grid[1]} x {grid[0]} points are not the {header.points} that it says it has")
    return Cloud(_as_floats(points), colours, grid)


_READERS = {".pcd": read_pcd, ".ply": read_ply, ".tif": read_tiff, ".tiff": read_tiff}


def _as_floats(points: np.ndarray) -> np.ndarray:
    return points if points.dtype == np.float32 else points.astype(np.float64)


def _check_count(count: int) -> None:
    if count > MAX_POINTS:
        raise ImageError(f"claims {count} points, at most {MAX_POINTS} are read")


def _pcd_header(stream: BinaryIO) -> list[str]:
    """Read the lines of the header for pypcd4; the stream is then at the points."""
    lines: list[str] = []
    while stream.tell() < _HEADER_BYTES and len(lines) < _PCD_LINES:
        read = stream.readline(_HEADER_BYTES).decode("utf-8")
        line = read.strip()
        if not read:
            break
        if line and not line.startswith("#"):
            lines.append(line)
        if line.startswith("DATA"):
            return lines
    raise ImageError("no PCD: its header has no line DATA")


def _check_pcd(header: Any, stream: BinaryIO, size: int) -> None:
    _check_count(header.points)
    numbers = [len(header.fields), len(header.size), len(header.type), len(header.count)]
    if len(set(numbers)) != 1 or sum(header.count) > _PCD_NUMBERS:
        raise ImageError(f"damaged PCD: FIELDS, SIZE, TYPE, COUNT name {numbers} fields, or too many numbers a point")
    claimed, left = header.points * header.build_dtype().itemsize, size - stream.tell()
    if header.data.value == "ascii":
        least = 2 * header.points * sum(header.count) - 1
    elif header.data.value == "binary":
        least = claimed
    else:
        packed, unpacked = struct.unpack("<II", stream.read(8))
        least = max(8 + packed, claimed // _LZF_RATIO)
        if unpacked != claimed:
            raise ImageError(f"damaged PCD: {unpacked} bytes are packed, {header.points} points have {claimed}")
    if least > left:
        raise ImageError(f"truncated PCD: it claims {least} bytes of points at least, {left} are there")
