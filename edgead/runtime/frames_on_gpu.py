"""Preprocessing on the GPU for frames of one shape: they are copied as the camera gave them and resized there."""

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
    """GPU memory and kernels that preprocess frames of one shape.

    `shape`: height and width of the cropped frame.
    `sides`: see `edgead.artifact.preprocess.looked_at`.
    `target`: address of the network's input, uint8 (count, h, w, 3) RGB.
    `count`: frames of one run.
    `images` (ndarray of shape (count, H, W, 3), uint8, BGR): buffer to write the next frames into.
    Raises ValueError: a side of the frame has more than 65535 pixels.
    Raises RuntimeError: the GPU has too little memory.
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
        """Choose by timing whether the resize reads frames from host memory or from a copy on the GPU.

        The resize reads most pixels more than once. Boards differ in whether the GPU caches pinned host memory; if not,
        a copy into memory that it caches is worth its time.
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
        """Enqueue the frames' copy to the GPU and their resize into the network's input."""
        self._enqueue(self._frames)

    def _enqueue(self, frames: Shared) -> None:
        frames.copy_in()
        of_frame, of_input = self.images[0].nbytes, 3 * self._room[0] * self._room[1]
        for i in range(len(self.images)):
            self._resizer(frames.address + i * of_frame, self._target + i * of_input, self._device.stream)

    def differing(self) -> int:
        """Preprocess noise on the GPU and on the CPU; return the number of values that differ, which must be 0."""
        self.images[...] = np.random.default_rng(0).integers(0, 256, self.images.shape, np.uint8)
        # With few distinct values, means often lie halfway between integers, so that the last digit of a sum decides.
        self.images[:, self.images.shape[1] // 2 :] //= 86
        found = self._device.pinned((len(self.images), *self._room, 3), np.uint8)
        self.enqueue()
        self._device.copy_out(found, self._target)
        self._device.wait()
        return sum(
            int(np.count_nonzero(there != prepared(image, self._size, self._sides)))
            for there, image in zip(found, self.images, strict=True)
        )
