"""Batches of the demo line: parts of one mould and one set-up of the camera are alike, and unlike those of the next.

What is the same for a whole batch is drawn once from its number. Between batches it deviates by about as much as
from part to part within one, so that neither is lost beside the other:

===================  =========================  ==============================================
what                 within a batch             between batches
===================  =========================  ==============================================
exposure             4.5 % (12 % at most)       4.5 % (12 % at most)
warmth               0.6 %                      0.6 %
focus, pixels        0.45 to 0.85               0.08 (0.15 at most), added
place, pixels        4.5 a side (14 at most)    3 a side (8 at most), added
turn, degrees        3 (9 at most)              2 (5 at most), added
fall of the light    none                       3 % from the middle to an edge (8 % at most)
cast skin            another piece of the same  15 % rougher or smoother (40 % at most)
mottling             another piece of the same  20 % stronger or weaker (50 % at most)
===================  =========================  ==============================================

Numbers are standard deviations, those of factors on a logarithmic scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgead.demo.camera import Scene


@dataclass(frozen=True)
class Batch:
    """What all parts of a batch share; factors are 1 and differences 0 for the line without batches."""

    gain: float
    warmth: float
    fall: tuple[float, float]
    roughness: float
    mottling: float
    shift: tuple[float, float]
    angle: float
    defocus: float

    def apply(self, scene: Scene) -> Scene:
        """The scene of a part of this batch."""
        return replace(
            scene,
            gain=scene.gain * self.gain,
            warmth=scene.warmth + self.warmth,
            fall=self.fall,
            roughness=self.roughness,
            mottling=self.mottling,
            shift=(scene.shift[0] + self.shift[0], scene.shift[1] + self.shift[1]),
            angle=scene.angle + self.angle,
            defocus=scene.defocus + self.defocus,
        )


def draw_batch(number: int) -> Batch:
    """Draw the light, the mould and the set-up of the camera of the batch `number`."""
    rng = np.random.default_rng([number, 4])  # 0 to 3 are the streams of parts, defects and belts

    def clipped(deviation: float, most: float) -> float:
        return float(np.clip(rng.normal(0, deviation), -most, most))

    return Batch(
        gain=float(np.exp(clipped(0.045, 0.12))),
        warmth=clipped(0.006, 0.018),
        fall=(clipped(0.03, 0.08), clipped(0.03, 0.08)),
        roughness=float(np.exp(clipped(0.15, 0.4))),
        mottling=float(np.exp(clipped(0.2, 0.5))),
        shift=(clipped(3.0, 8.0), clipped(3.0, 8.0)),
        angle=clipped(2.0, 5.0),
        defocus=clipped(0.08, 0.15),
    )
