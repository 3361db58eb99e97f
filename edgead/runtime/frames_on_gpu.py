"""Frames of one shape that a GPU prepares for the network: copied as the camera gave them, resized there."""

from __future__ import annotations

import logging
import time

import numpy as np

from edgead.artifact.preprocess import Sides, prepared, resize_steps
from edgead.kernels import cuda
from edgead.runtime.device import CopiedMemory, Device, Shared

logger = logging.getLogger(__name__)

_TRIES = 5


class FramesOnGpu:
    """Memory and kernels for frames of one shape.

    Parameters
    ----------
    device : Device
    shape : (int, int)
        Height and width of what the network sees of a frame.
    size : (int, int)
    sides : tuple of int
        See `edgead.artifact.preprocess.looked_at`.
    target : int
        Address of the network's input, uint8 (count, h, w, 3) RGB.
    count : int
        Frames of one run.

    Attributes
    ----------
    images : ndarray of shape (count, H, W, 3), uint8, BGR
        What the next frames are written into.

    Raises
    ------
    ValueError
        If the frame has more than 65535 pixels a side.
    RuntimeError
        If the GPU has too little memory.
    """

    def __init__(
        self, device: Device, shape: tuple[int, int], size: tuple[int, int], sides: Sides, target: int, count: int = 1
    ):
        self._device, self._size, self._sides, self._target = device, size, sides, target
        above, below, left, right = sides
        self._room = size[0] + above + below, size[1] + left + right
        self._resizer = cuda.Resizer(resize_steps(shape, size), self._room, (above, left))
        self._frames: Shared = device.share((count, *shape, 3), np.uint8)
        self.images = self._frames.array
        if device.unified:
            copied = CopiedMemory(self.images, device.allocate(self.images.nbytes), device)
            self._frames = self._faster(self._frames, copied)
            if self._frames is not copied:
                device.free(copied.address)

    def _faster(self, in_place: Shared, copied: Shared) -> Shared:
        """Choose where the resize reads frames, by a few tries: it reads most pixels more than once.

        Whether a GPU caches what the host has pinned differs between boards. If it does not, a copy into memory that it
        does cache is worth its time.
        """
        ms = [1000 * min(self._seconds(frames) for _ in range(_TRIES)) for frames in (in_place, copied)]
        height, width = self.images.shape[1:3]
        logger.info("a frame of %d x %d: %.3f ms read in place, %.3f ms copied before", width, height, *ms)
        return in_place if ms[0] <= ms[1] else copied

    def _seconds(self, frames: Shared) -> float:
        begin = time.perf_counter()
        self._enqueue(frames)
        self._device.wait()
        return time.perf_counter() - begin

    def enqueue(self) -> None:
        """Put the frames into the stream: to the GPU, and from there into the network's input."""
        self._enqueue(self._frames)

    def _enqueue(self, frames: Shared) -> None:
        frames.copy_in()
        of_frame, of_input = self.images[0].nbytes, 3 * self._room[0] * self._room[1]
        for i in range(len(self.images)):
            self._resizer(frames.address + i * of_frame, self._target + i * of_input, self._device.stream)

    def differing(self) -> int:
        """Prepare noise here and on the CPU; count the numbers that differ, which must be none."""
        self.images[...] = np.random.default_rng(0).integers(0, 256, self.images.shape, np.uint8)
        # Among few values means often lie between two numbers, and the last digit of a sum decides.
        self.images[:, self.images.shape[1] // 2 :] //= 86
        found = self._device.pinned((len(self.images), *self._room, 3), np.uint8)
        self.enqueue()
        self._device.copy_out(found, self._target)
        self._device.wait()
        return sum(
            int(np.count_nonzero(there != prepared(image, self._size, self._sides)))
            for there, image in zip(found, self.images, strict=True)
        )
