"""Volumes as folders of slices: TIFF with several pages, NIfTI, and folders of DICOM files.

The slices of `scan.nii.gz` are called `scan.nii.gz[000]`, `scan.nii.gz[001]` and so on, beside it. A volume is
unpacked once, into a temporary file that the system removes with the process; its slices are read from there.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgead.images.volume_readers import (
    NIFTI_SUFFIXES,
    TIFF_SUFFIXES,
    Stack,
    VolumeError,
    dicom_files,
    has_pages,
    open_dicom,
    open_nifti,
    open_tiff,
)

_SLICE = re.compile(r"(?s)(.+)\[([0-9]{3,5})\]")
# Number of volumes kept unpacked: each holds a file open, and a process can have 1,024.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class _Unpacked:
    values: np.ndarray
    sha256: str


_Key = tuple[Path, tuple[int, ...]]
_unpacked: OrderedDict[_Key, _Unpacked | VolumeError] = OrderedDict()
_lock = threading.Lock()


def is_volume(path: Path) -> bool:
    """Whether a path is a NIfTI file, a TIFF file with several pages of one format, or a folder of DICOM files."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return bool(dicom_files(path))
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return path.is_file()
    return name.endswith(TIFF_SUFFIXES) and path.is_file() and has_pages(path)


def slices_of(volume: Path) -> list[Path]:
    """List the slices of a volume; if it cannot be opened, the volume itself, so that reading it reports the reason."""
    try:
        count = _count(_key(volume))
    except VolumeError:
        return [volume]
    return [slice_path(volume, number) for number in range(count)]


def slice_path(volume: Path, number: int) -> Path:
    """Make the path of a slice, numbered from 0.

    >>> slice_path(Path("scans/7.nii.gz"), 12).as_posix()
    'scans/7.nii.gz[012]'
    """
    return volume.with_name(f"{volume.name}[{number:03d}]")


def volume_of(path: Path) -> Path | None:
    """Return the volume of a slice's path; None for other paths."""
    found = _SLICE.fullmatch(path.name)
    return path.with_name(found[1]) if found else None


def by_volume(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Group slices by volume, and each other image by itself, in the order of first appearance."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        found.setdefault(volume_of(path) or path, []).append(path)
    return found


def slice_number(path: Path) -> int:
    """Return the number of a slice within its volume."""
    found = _SLICE.fullmatch(path.name)
    assert found is not None
    return int(found[2])


def read_slice(path: Path) -> np.ndarray:
    """Read a slice, (H, W) uint8, uint16 or float32; raises VolumeError."""
    return np.array(_values_at(path)[0])


def slice_sha256(path: Path) -> str:
    """Hash the volume's values and the slice's number, so that empty slices of two volumes differ."""
    _, sha256 = _values_at(path)
    return hashlib.sha256(f"{sha256} {slice_number(path)}".encode()).hexdigest()


def refusal_of(volume: Path) -> str:
    """Message on a volume given for an image: it cannot be opened, or a slice must be named."""
    try:
        count = _count(_key(volume))
    except VolumeError as error:
        return str(error)
    return f"is a volume of {count} slices, not an image: name one, such as {slice_path(volume, count // 2).name}"


def _values_at(path: Path) -> tuple[np.ndarray, str]:
    volume = volume_of(path)
    assert volume is not None
    unpacked = _unpack(volume)
    number = slice_number(path)
    if number >= len(unpacked.values):
        raise VolumeError(f"there is no such slice: the volume has {len(unpacked.values)}, from 0 on")
    return unpacked.values[number], unpacked.sha256


def _open(volume: Path) -> Stack:
    if volume.is_dir():
        return open_dicom(volume)
    return open_nifti(volume) if volume.name.lower().endswith(NIFTI_SUFFIXES) else open_tiff(volume)


def _key(volume: Path) -> _Key:
    """Key of a volume's present content: it changes if the file at this path is replaced."""
    try:
        found = [file.stat() for file in dicom_files(volume) or [volume]]
    except OSError as error:
        raise VolumeError(f"cannot be read: {error.strerror}") from None
    return volume.absolute(), tuple(number for one in found for number in (one.st_ino, one.st_size, one.st_mtime_ns))


@lru_cache(maxsize=1024)  # cached, as finding the mask of each slice counts all slices
def _count(key: _Key) -> int:
    return _open(key[0]).shape[0]


def _unpack(volume: Path) -> _Unpacked:
    """Return an unpacked volume, from the cache if possible; a failure is cached too, until the file changes."""
    key = _key(volume)
    with _lock:
        if key not in _unpacked:
            try:
                _unpacked[key] = _unpack_now(volume)
            except VolumeError as error:
                _unpacked[key] = error
        _unpacked.move_to_end(key)
        if len(_unpacked) > _KEPT:
            _unpacked.popitem(last=False)
        one = _unpacked[key]
    if isinstance(one, VolumeError):
        raise VolumeError(str(one))
    return one


def _unpack_now(volume: Path) -> _Unpacked:
    stack = _open(volume)
    digest = hashlib.sha256(repr((stack.shape, stack.dtype)).encode())
    with tempfile.TemporaryFile() as file:
        # Written, not memory-mapped: a full disk then raises an error, and no signal ends the process.
        for number, values in enumerate(stack.slices()):
            if values.shape != stack.shape[1:]:
                raise VolumeError(f"slice {number} has another size than the header says: it is damaged; copy it again")
            with np.errstate(
                over="ignore"
            ):  # a float64 beyond float32 becomes infinite, and is refused when it is judged
                data = np.ascontiguousarray(values, stack.dtype).tobytes()
            digest.update(data)
            try:
                file.write(data)
            except OSError as error:
                raise VolumeError(f"cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}") from error
        file.flush()
        return _Unpacked(np.memmap(file, stack.dtype, "r", shape=stack.shape), digest.hexdigest())
