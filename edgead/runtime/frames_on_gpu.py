"""Frames of one shape that a GPU prepares for the network: copied as the camera gave them, resized there."""

from __future__ import annotations

import numpy as np

from edgead.artifact.preprocess import Sides, prepared, resize_steps
from edgead.kernels import cuda
from edgead.runtime.device import Device


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
        Address of the network's input, uint8 (1, h, w, 3) RGB.

    Attributes
    ----------
    image : ndarray of shape (H, W, 3), uint8, BGR
        What the next frame is written into.

    Raises
    ------
    ValueError
        If the frame has more than 65535 pixels a side.
    RuntimeError
        If the GPU has too little memory.
    """

    def __init__(self, device: Device, shape: tuple[int, int], size: tuple[int, int], sides: Sides, target: int):
        self._device, self._size, self._sides, self._target = device, size, sides, target
        above, below, left, right = sides
        self._room = size[0] + above + below, size[1] + left + right
        self._resizer = cuda.Resizer(resize_steps(shape, size), self._room, (above, left))
        self.image = device.pinned((*shape, 3), np.uint8)
        self._address = device.allocate(self.image.nbytes)

    def enqueue(self) -> None:
        """Put a frame into the stream: to the GPU, and from there into the network's input."""
        self._device.copy_in(self._address, self.image)
        self._resizer(self._address, self._target, self._device.stream)

    def differing(self) -> int:
        """Prepare noise here and on the CPU; count the numbers that differ, which must be none."""
        self.image[...] = np.random.default_rng(0).integers(0, 256, self.image.shape, np.uint8)
        # Among few values means often lie between two numbers, and the last digit of a sum decides.
        self.image[len(self.image) // 2 :] //= 86
        found = self._device.pinned((*self._room, 3), np.uint8)
        self.enqueue()
        self._device.copy_out(found, self._target)
        self._device.wait()
        return int(np.count_nonzero(found != prepared(self.image, self._size, self._sides)))
