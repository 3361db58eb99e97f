"""Drawn clips: discs that pass on a conveyor, all at one pace; in bad clips one stands still, or is a square."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 64
_PACE, _APART = 4, 32


def draw_clip(seed: int, count: int = 20, fault: str = "", since: int = 10) -> list[np.ndarray]:
    """Frames, uint8 BGR (64, 64, 3); from the frame `since` on with a fault: "stop", "square", or none."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.linspace(40, 90, SIDE), np.linspace(0, 30, SIDE))[..., None] * [1, 0.9, 0.8]
    begin = int(rng.integers(_APART))
    frames = []
    for number in range(count):
        image = np.clip(ramp + rng.normal(0, 2, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        moved = since if fault == "stop" and number > since else number
        for part in range(-3, 4):
            x = (begin + _PACE * moved) % _APART + _APART * part
            if fault == "square" and number >= since and part == 0:
                cv2.rectangle(image, (x - 9, 23), (x + 9, 41), (60, 60, 220), -1)
            else:
                cv2.circle(image, (x, 32), 9, (200, 200, 200), -1)
        frames.append(image)
    return frames
