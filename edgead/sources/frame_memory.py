"""Shared memory through which one process passes its newest frames to another."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edgead.types import FrameLines

# Frame number + 1 (0 for no frame), captured_ns, microseconds since 1970, height, width; then its lines: the
# first one + 1 (0 without a line scan), the number of lost ones, millimetres per line (0 if unknown).
_HEADER = struct.Struct("<QQQIIQQd")
_PAGE = mmap.PAGESIZE
# One slot for the writer, one for the reader, and one with the newest complete frame.
_SLOTS = 3


@dataclass(frozen=True, slots=True)
class SharedFrame:
    """Frame read from the memory; `image` is a copy."""

    number: int
    captured_ns: int
    captured_us: int
    image: np.ndarray
    lines: FrameLines | None = None


class FrameMemory:
    """Shared memory with three slots for frames up to a fixed size. One process writes, another one reads.

    A slot is locked while it is written or read (POSIX record locks, which the kernel releases when a process
    dies), so that no frame is torn. The writer never waits and takes the slot with the oldest frame.

    The memory has no name (memfd): it is freed when the last of the two processes ends, for whatever reason. Python's
    resource tracker, which would report a leak when a reader is killed, is not involved.

    `descriptor`: file descriptor of the memory, from `create_memory` or from the other process; this object closes it.
    """

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self._bytes = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._slot_bytes = len(self._bytes) // _SLOTS

    def holds(self, image: np.ndarray) -> bool:
        return image.nbytes <= self._slot_bytes - _PAGE

    def write(
        self, number: int, captured_ns: int, captured_us: int, image: np.ndarray, lines: FrameLines | None = None
    ) -> None:
        """Write an image, (H, W, 3) uint8 in C order, over the oldest image."""
        for slot in sorted(range(_SLOTS), key=self._stamp):
            with self._lock(slot) as mine:
                if not mine:
                    continue
                begin = slot * self._slot_bytes
                height, width, _ = image.shape
                # Marked empty first, so that a writer killed half-way leaves a slot without a frame.
                _HEADER.pack_into(self._bytes, begin, 0, 0, 0, 0, 0, *_packed(None))
                self._pixels(begin, image.shape)[...] = image
                of_frame = (number + 1, captured_ns, captured_us, height, width)
                _HEADER.pack_into(self._bytes, begin, *of_frame, *_packed(lines))
                return

    def newest(self, after: int) -> SharedFrame | None:
        """Copy the newest complete frame with a number above `after`; None if there is none."""
        for slot in sorted(range(_SLOTS), key=self._stamp, reverse=True):
            with self._lock(slot) as mine:
                if not mine:
                    continue
                begin = slot * self._slot_bytes
                stamp, captured_ns, captured_us, height, width, *packed = _HEADER.unpack_from(self._bytes, begin)
                if stamp - 1 <= after:
                    return None
                image = self._pixels(begin, (height, width, 3)).copy()
                return SharedFrame(stamp - 1, captured_ns, captured_us, image, _unpacked(*packed))
        return None

    def close(self) -> None:
        self._bytes.close()
        os.close(self.descriptor)

    def _stamp(self, slot: int) -> int:
        return _HEADER.unpack_from(self._bytes, slot * self._slot_bytes)[0]

    def _pixels(self, begin: int, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        return np.frombuffer(self._bytes, np.uint8, count, begin + _PAGE).reshape(shape)

    @contextmanager
    def _lock(self, slot: int) -> Iterator[bool]:
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except (BlockingIOError, PermissionError):  # locked by the other process
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, slot)


def _packed(lines: FrameLines | None) -> tuple[int, int, float]:
    return (0, 0, 0.0) if lines is None else (lines.first_line + 1, lines.lost_lines, lines.mm_per_line or 0.0)


def _unpacked(first: int, lost: int, mm_per_line: float) -> FrameLines | None:
    return FrameLines(first - 1, lost, mm_per_line or None) if first else None


def create_memory(image: np.ndarray) -> FrameMemory:
    """Create memory for images up to the size of this one."""
    descriptor = os.memfd_create("edgead frames")
    slot_bytes = _PAGE + -(-image.nbytes // _PAGE) * _PAGE
    os.ftruncate(descriptor, _SLOTS * slot_bytes)
    return FrameMemory(descriptor)
