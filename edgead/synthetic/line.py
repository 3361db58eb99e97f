"""Demo line: the sequence of parts, batches and defects, and the camera's images of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count as counted

import cv2
import numpy as np

from edgead.synthetic import camera
from edgead.synthetic import demo_defects as defects
from edgead.synthetic.camera import Scene
from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.part import SIZE, build_layers

QUALITY = 95
# Least change of a pixel by a visible defect, in grey levels before noise.
_VISIBLE = 2.5
_SMALLEST_PX = 24
# First number of the conveyor's parts, far above the parts of any data set.
_CONVEYOR = 1 << 96


@dataclass(frozen=True)
class BatchConditions:
    """Conditions that all parts of a batch share; factors are 1 and differences 0 for the line without batches."""

    gain: float
    warmth: float
    fall: tuple[float, float]
    roughness: float
    mottling: float
    shift: tuple[float, float]
    angle: float
    defocus: float

    def apply(self, scene: Scene) -> Scene:
        """Apply the batch's conditions to the scene of a part."""
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


def draw_batch(number: int) -> BatchConditions:
    """Draw the light, the mould and the set-up of the camera of the batch `number`."""
    rng = np.random.default_rng([number, 4])  # 0 to 3 are the streams of parts, defects and conveyors

    def clipped(deviation: float, most: float) -> float:
        return float(np.clip(rng.normal(0, deviation), -most, most))

    return BatchConditions(
        gain=float(np.exp(clipped(0.045, 0.12))),
        warmth=clipped(0.006, 0.018),
        fall=(clipped(0.06, 0.15), clipped(0.06, 0.15)),
        roughness=float(np.exp(clipped(0.3, 0.7))),
        mottling=float(np.exp(clipped(0.4, 0.9))),
        shift=(clipped(3.0, 8.0), clipped(3.0, 8.0)),
        angle=clipped(2.0, 5.0),
        defocus=clipped(0.12, 0.18),
    )


def transmit(image: np.ndarray) -> np.ndarray:
    """Encode an image, (H, W, 3) uint8 BGR, as the camera does, and decode it again."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def part_seed(seed: int, index: int, *, on_conveyor: bool = False) -> int:
    """Return the number of the part `index` in the data set (or on the conveyor) `seed`; no two are equal."""
    if seed < 0 or index < 0:
        raise ValueError(f"seeds and part numbers count from 0, got seed {seed} and part {index}")
    return (seed << 32) + index + (_CONVEYOR if on_conveyor else 0)


def render(seed: int, defect: str | None = None, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Photograph the part number `seed`.

    `seed`: fixes the part, its pose and the exposure: the same seed gives the same bytes on the same machine.
    `defect`: one of `DEFECTS`; None renders the same part without a defect.
    `batch`: number of the part's batch, see `draw_batch`; None is the line without batches.
    Returns image, ndarray of shape (480, 480, 3), uint8, BGR.
    And mask, ndarray of shape (480, 480), bool: the pixels of the defect with its inner gaps closed. Outside it the
        image equals the good one.
    """
    scene = camera.draw_scene(seed)
    if batch is not None:
        scene = draw_batch(batch).apply(scene)
    good = camera.photograph(build_layers(), scene)
    if defect is None:
        return camera.expose(good, scene), np.zeros(SIZE, bool)
    rng = np.random.default_rng([seed, 1])
    mask = np.zeros(SIZE, bool)
    # A shallow defect in a dark place may be invisible: draw another until it shows.
    while not mask.any():
        flawed = camera.photograph(defects.apply(defect, rng), scene)
        mask = _visible_change(good, flawed)
    return camera.expose(np.where(mask[..., None], flawed, good), scene), mask


def conveyor(
    seed: int, count: int | None = None, defect_rate: float = 0.1, parts_per_batch: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, str | None]]:
    """Yield images from above the conveyor; a light barrier triggers the camera once for each part.

    Parameters
    ----------
    seed : int
        Seed of the conveyor: different seeds have no part in common, with each other or with a data set.
    count : int or None
        Number of parts; None never ends.
    defect_rate : float
        Share of defective parts, 0 to 1.
    parts_per_batch : int or None
        Number of parts in a batch; None is the line without batches.

    Yields
    ------
    image, mask : as from `render`
    defect : str or None
    """
    if parts_per_batch is not None and parts_per_batch < 1:
        raise ValueError(f"a batch has at least one part, got parts_per_batch={parts_per_batch}")
    for index, (number, defect) in enumerate(schedule(seed, count, defect_rate)):
        batch = None if parts_per_batch is None else part_seed(seed, index // parts_per_batch, on_conveyor=True)
        image, mask = render(number, defect, batch)
        yield image, mask, defect


def schedule(seed: int, count: int | None, defect_rate: float) -> Iterator[tuple[int, str | None]]:
    """Yield the seed and the defect of every part on the conveyor, without making its image."""
    if not 0 <= defect_rate <= 1:
        raise ValueError(f"defect_rate is a share from 0 to 1, got {defect_rate}")
    if count is not None and count < 0:
        raise ValueError(f"count is a number of parts or None, got {count}")
    rng = np.random.default_rng([part_seed(seed, 0, on_conveyor=True), 2])
    bag: list[str] = []
    for index in counted() if count is None else range(count):
        defect = None
        if rng.random() < defect_rate:
            # From a shuffled bag, so that all types occur before one occurs twice.
            bag = bag or [str(name) for name in rng.permutation(DEFECTS)]
            defect = bag.pop()
        yield part_seed(seed, index, on_conveyor=True), defect


def _visible_change(good: np.ndarray, flawed: np.ndarray) -> np.ndarray:
    """Return the mask of visible differences of two images, gaps closed and specks left out."""
    # The sensor clips at 255: changes above it are invisible.
    change = cv2.absdiff(np.minimum(good, 255), np.minimum(flawed, 255)).max(axis=2)
    changed = (change > _VISIBLE).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros(SIZE, np.uint8)
    cv2.drawContours(mask, contours, -1, 1, cv2.FILLED)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= _SMALLEST_PX
    kept[0] = False
    return kept[regions]
