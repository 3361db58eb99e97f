"""Rendered machine with a repeated motion: a crank drives a press onto parts that a conveyor carries below it.

Faults are scripted: it may stop, run at double speed or backwards, or contain a foreign object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as counted
from typing import Literal, get_args

import cv2
import numpy as np

Fault = Literal["stopped", "doubled", "reversed", "foreign"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
_SPEEDS = {"stopped": 0.0, "doubled": 2.0, "reversed": -1.0, "foreign": 1.0}
# The cycle is not exact: the speed drifts by a few per cent, over about so many frames.
_UNEVEN, _WANDER_FRAMES = 0.02, 40.0
# Light with mean 1, which drifts slowly and flickers from frame to frame; noise in grey levels.
_SLOW_LIGHT, _LIGHT_FRAMES, _FLICKER, _NOISE = 0.06, 700.0, 0.01, 3.0
_SHIFT = 4  # OpenCV draws in sixteenths of a pixel


@dataclass(frozen=True)
class Happening:
    """Scripted fault of the machine, from the frame `at` on, for a number of frames."""

    fault: Fault
    at: int
    frames: int


def machine(
    seed: int, period: float, count: int | None = None, script: Sequence[Happening] = (), *, size: int = 96
) -> Iterator[tuple[np.ndarray, Fault | None]]:
    """Yield the images of a camera in front of the machine, with its present fault.

    Parameters
    ----------
    seed : int
        Seed of noise, light and unevenness; the machine is always the same.
    period : float
        Mean number of frames in a cycle.
    count : int or None
        Number of frames; None never ends.
    script : sequence of Happening
        Faults, by time.
    size : int
        Height and width in pixels.

    Yields
    ------
    image : ndarray of shape (size, size, 3), uint8, BGR
    fault : str or None
        Fault in this frame.
    """
    rng = np.random.default_rng([seed, 5])
    background = _background(size)
    starts = rng.uniform(0, 2 * math.pi, 2)
    turned, uneven = float(rng.uniform()), 0.0
    for number in counted() if count is None else range(count):
        fault = next((one.fault for one in script if one.at <= number < one.at + one.frames), None)
        uneven += -uneven / _WANDER_FRAMES + _UNEVEN * math.sqrt(2 / _WANDER_FRAMES) * float(rng.normal())
        turned += _SPEEDS.get(fault or "", 1.0) * (1 + uneven) / period
        image = _draw(background, turned, size, foreign=fault == "foreign")
        slow = math.sin(2 * math.pi * number / _LIGHT_FRAMES + starts[0]) + math.sin(number / _LIGHT_FRAMES + starts[1])
        light = 1 + _SLOW_LIGHT * slow / 2 + _FLICKER * float(rng.normal())
        noisy = image * np.float32(light) + rng.normal(0, _NOISE, image.shape).astype(np.float32)
        yield np.clip(noisy + 0.5, 0, 255).astype(np.uint8), fault


def _background(size: int) -> np.ndarray:
    """Make the background, a brushed plate, float32 (size, size, 3): the same for every seed."""
    rng = np.random.default_rng(11)
    grain = cv2.GaussianBlur(rng.normal(0, 40, (size, size)).astype(np.float32), (0, 0), sigmaX=6, sigmaY=0.8)
    slope = np.linspace(-12, 12, size, dtype=np.float32)
    return np.repeat((118 + grain + slope)[..., None], 3, axis=2) * np.array([1.0, 0.98, 0.94], np.float32)


def _draw(background: np.ndarray, turned: float, size: int, *, foreign: bool) -> np.ndarray:
    """Draw the machine after `turned` turns of its crank, float32 (size, size, 3)."""
    canvas = np.clip(background, 0, 255).astype(np.uint8)
    angle = 2 * math.pi * turned
    hub = np.array([0.3, 0.32])
    pin = hub + 0.17 * np.array([math.cos(angle), math.sin(angle)])
    ram = 0.5 + 0.13 * math.sin(angle)

    def box(left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) * size * 2**_SHIFT
        cv2.fillConvexPoly(canvas, np.rint(corners).astype(np.int32), colour, cv2.LINE_AA, _SHIFT)

    def disc(centre: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
        place = np.rint(centre * size * 2**_SHIFT).astype(int)
        cv2.circle(canvas, place.tolist(), round(radius * size * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)

    box(0, 0.84, 1, 1, (52, 50, 48))
    for part in range(-1, 3):  # half a machine's width apart, so that a cycle brings the next one below the press
        left = (part + turned % 1) * 0.5 - 0.1
        box(left, 0.74, left + 0.2, 0.86, (60, 130, 190))
    disc(hub, 0.21, (88, 84, 80))
    disc(pin, 0.05, (210, 205, 200))
    box(0.62, 0.05, 0.8, ram, (150, 120, 70))
    box(0.58, ram, 0.84, ram + 0.08, (190, 185, 180))
    ends = np.rint(np.array([pin, [0.71, ram - 0.1]]) * size * 2**_SHIFT).astype(int).tolist()
    cv2.line(canvas, ends[0], ends[1], (70, 160, 90), max(2, size // 32), cv2.LINE_AA, _SHIFT)
    if foreign:
        disc(np.array([0.5, 0.62]), 0.06, (40, 40, 170))
    return canvas.astype(np.float32)
