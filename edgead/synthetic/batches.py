"""Batches of the demo line: parts of one mould and one set-up of the camera are alike, and unlike those of the next.

What is the same for a whole batch is drawn once from its number. Between batches it deviates by about as much as
from part to part within one, so that neither is lost beside the other:

===================  =========================  ==============================================
what                 within a batch             between batches
===================  =========================  ==============================================
exposure             4.5 % (12 % at most)       4.5 % (12 % at most)
warmth               0.6 %                      0.6 %
focus, pixels        0.45 to 0.85               0.12 (0.18 at most), added
place, pixels        4.5 a side (14 at most)    3 a side (8 at most), added
turn, degrees        3 (9 at most)              2 (5 at most), added
fall of the light    none                       6 % from the middle to an edge (15 % at most)
cast skin            another piece of the same  30 % rougher or smoother (70 % at most)
mottling             another piece of the same  40 % stronger or weaker (90 % at most)
===================  =========================  ==============================================

Numbers are standard deviations before extremes are cut off; those of factors are on a logarithmic scale. The skin of
the casting moves the scores of patchcore most, mottling and the fall of the light hardly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgead.synthetic.camera import Scene


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
    rng = np.random.default_rng([number, 4])  # 0 to 3 are the streams of parts, defects and conveyors

    def clipped(deviation: float, most: float) -> float:
        return float(np.clip(rng.normal(0, deviation), -most, most))

    return Batch(
        gain=float(np.exp(clipped(0.045, 0.12))),
        warmth=clipped(0.006, 0.018),
        fall=(clipped(0.06, 0.15), clipped(0.06, 0.15)),
        roughness=float(np.exp(clipped(0.3, 0.7))),
        mottling=float(np.exp(clipped(0.4, 0.9))),
        shift=(clipped(3.0, 8.0), clipped(3.0, 8.0)),
        angle=clipped(2.0, 5.0),
        defocus=clipped(0.12, 0.18),
    )
