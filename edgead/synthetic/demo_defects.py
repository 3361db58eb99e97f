"""Six kinds of defects of the demo part. Each changes the layers of the part, never the image.

So a dent is lit like the rest of the part, and it turns, moves and blurs with it.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edgead.synthetic.part import (
    BODY,
    BOLT_CIRCLE,
    BORE,
    CENTRE,
    GROOVE,
    HOLE,
    HUB,
    LUG,
    SEAT,
    SIZE,
    SPOTFACE,
    Layers,
    build_layers,
    grid,
    hole_centres,
    outline,
)


def apply(defect: str, rng: np.random.Generator) -> Layers:
    """Return the layers of a part with one defect, drawn by `rng`.

    Raises ValueError if there is no such defect.
    """
    if defect not in _MAKERS:
        raise ValueError(f"no defect is called {defect!r}: choose one of {', '.join(DEFECTS)}")
    return _MAKERS[defect](rng)


def _scratch(rng: np.random.Generator) -> Layers:
    """Scratch: a slightly bent line of bare metal with raised lips, mostly across the turned face."""
    layers = build_layers().copy()
    start = np.array(_on_part(rng, SEAT + 4, HUB + 20))
    heading, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.006)
    length = rng.uniform(50, 120)
    turn = heading + bend * np.arange(0, length, 2.0)
    path = start + np.cumsum(2.0 * np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0)
    path = path[layers.colour[_pixel(path)][:, 3] > 0.9]
    groove = _drawn(path, thickness=rng.uniform(1.4, 2.8), tapered=True)
    _engrave(layers, groove, depth=rng.uniform(0.5, 1.3))
    layers.colour[..., :3] *= 1 + rng.uniform(0.3, 0.6) * rng.choice([1, 1, -0.8]) * groove[..., None]
    return layers


def _dent(rng: np.random.Generator) -> Layers:
    """Dent: a bowl pressed into the metal, with a rim of displaced metal."""
    layers = build_layers().copy()
    x, y = _on_part(rng, SEAT + 12, BOLT_CIRCLE + 12)
    size, stretch, angle = rng.uniform(8, 15), rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    right, down = (axis - offset for axis, offset in zip(_pixels(), (x, y), strict=True))
    along = (right * np.cos(angle) + down * np.sin(angle)) / size
    across = (down * np.cos(angle) - right * np.sin(angle)) / (size * stretch)
    distance = along * along + across * across
    bowl = np.exp(-distance) - 0.35 * np.exp(-((np.sqrt(distance) - 1.7) ** 2) * 6)
    _engrave(layers, bowl.astype(np.float32), depth=size * rng.uniform(0.3, 0.55))
    layers.surface[..., 3] *= 1 - np.clip(bowl, 0, 1)
    return layers


def _crack(rng: np.random.Generator) -> Layers:
    """Crack: a dark jagged line that starts at a bolt hole or at the outer edge and may fork."""
    layers = build_layers().copy()
    hole = hole_centres()[rng.integers(len(hole_centres()))]
    outwards = np.arctan2(hole[1] - CENTRE[0], hole[0] - CENTRE[1])
    heading = outwards + rng.choice([-1, 1]) * rng.uniform(0.9, 2.4)
    start = hole + (HOLE + 1) * np.array([np.cos(heading), np.sin(heading)])
    path = _jagged(rng, start, heading, rng.uniform(40, 90))
    line = _drawn(path, thickness=rng.uniform(1.6, 3.0), tapered=True)
    if rng.random() < 0.5 and len(path) > 6:
        fork = path[len(path) // 2]
        branch = _jagged(rng, fork, heading + rng.choice([-0.7, 0.7]), rng.uniform(10, 30))
        line = np.maximum(line, _drawn(branch, thickness=0.8, tapered=True))
    line *= layers.colour[..., 3] > 0.5
    _engrave(layers, line, depth=0.5)
    layers.colour[..., :3] *= 1 - rng.uniform(0.6, 0.9) * line[..., None]
    return layers


def _stain(rng: np.random.Generator) -> Layers:
    """Stain: a blot of oil or rust that absorbs light, blue most, and dulls the polish."""
    layers = build_layers().copy()
    x, y = _on_part(rng, SEAT + 8, BOLT_CIRCLE + 8)
    size = rng.uniform(14, 32)
    right, down = (axis - offset for axis, offset in zip(_pixels(), (x, y), strict=True))
    noise = cv2.resize(rng.standard_normal((20, 20)).astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    blot = 1 - np.hypot(right, down) / size + 0.28 * noise
    # Only the component that contains the middle, as the noise also makes islands far away.
    blot = np.clip(blot * 3.5, 0, 1) * (np.hypot(right, down) < 1.6 * size)
    dark = blot * (0.75 + 0.25 * np.clip(1.5 - 2 * np.abs(blot - 0.5), 0, 1))
    absorbed = rng.uniform(0.25, 0.5) * np.array([rng.uniform(1.0, 1.5), 1.0, rng.uniform(0.6, 1.0)])
    layers.colour[..., :3] *= 1 - dark[..., None] * absorbed
    layers.surface[..., 2:] *= (1 - 0.5 * blot)[..., None]
    return layers


def _missing_hole(rng: np.random.Generator) -> Layers:
    """Missing hole: one lug was not drilled, and half of the time not even spot-faced."""
    layers = build_layers().copy()
    source = build_layers(drilled=False, spotfaced=bool(rng.random() < 0.5))
    hole = hole_centres()[rng.integers(len(hole_centres()))]
    right, down = (axis - offset for axis, offset in zip(_pixels(), hole, strict=True))
    lug = np.hypot(right, down) < SPOTFACE + 8
    layers.surface[lug], layers.colour[lug] = source.surface[lug], source.colour[lug]
    return layers


def _chipped_edge(rng: np.random.Generator) -> Layers:
    """Chipped edge: a piece broken out of the rim of the casting or of the turned face, with a rough fracture."""
    layers = build_layers().copy()
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    rim = HUB + 2 if rng.random() < 0.35 else _edge_along(direction)
    x, y = np.array([CENTRE[1], CENTRE[0]]) + direction * (rim + rng.uniform(0, 4))
    size = rng.uniform(11, 20)
    right, down = (axis - offset for axis, offset in zip(_pixels(), (x, y), strict=True))
    bearing = np.arctan2(down, right)
    lobes = sum(rng.uniform(0.04, 0.14) * np.sin(n * bearing + rng.uniform(0, 6.28)) for n in (2, 3, 5, 8))
    depth = size * (1 + lobes) - np.hypot(right, down)
    broken = np.clip(depth, 0, 1).astype(np.float32)
    facets = cv2.GaussianBlur(rng.standard_normal(SIZE).astype(np.float32), (0, 0), 1.6)
    fracture = np.clip(depth, 0, 5) * 0.5 + 4.0 * facets
    layers.surface[..., 2:] *= 1 - broken[..., None]
    layers.surface[..., :2] *= 1 - 0.8 * broken[..., None]
    _engrave(layers, (fracture * broken).astype(np.float32), depth=1.0)
    layers.colour[..., :3] *= 1 + rng.uniform(-0.05, 0.45) * broken[..., None]
    if rim > HUB + 10:
        layers.colour[..., 3] *= 1 - np.clip(depth - size * rng.uniform(0.3, 0.6), 0, 1)
    return layers


def _engrave(layers: Layers, shape: np.ndarray, depth: float) -> None:
    """Press `shape` (0 to 1) into the surface, `depth` pixels deep."""
    down, right = np.gradient(shape)
    layers.surface[..., 0] += depth * right
    layers.surface[..., 1] += depth * down


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    x, y = grid()
    return x + np.float32(CENTRE[1]), y + np.float32(CENTRE[0])


def _pixel(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.clip(np.rint(points).astype(int), 0, np.array(SIZE[::-1]) - 1).T
    return rows, columns


def _on_part(rng: np.random.Generator, nearest: float, farthest: float) -> tuple[float, float]:
    """Draw a place on solid metal between two radii, even by area and away from the groove."""
    coverage = build_layers().colour[..., 3]
    while True:
        radius = np.sqrt(rng.uniform(nearest**2, farthest**2))
        angle = rng.uniform(0, 2 * np.pi)
        x, y = CENTRE[1] + radius * np.cos(angle), CENTRE[0] + radius * np.sin(angle)
        in_groove = GROOVE[0] - 3 < radius < GROOVE[1] + 3
        around = coverage[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
        if not in_groove and radius > BORE and around.min() > 0.99:
            return float(x), float(y)


def _jagged(rng: np.random.Generator, start: np.ndarray, heading: float, length: float) -> np.ndarray:
    """Walk with small turns, the way a crack runs from grain to grain."""
    steps = max(3, int(length / 4))
    headings = heading + np.cumsum(rng.normal(0, 0.12, steps)) + rng.normal(0, 0.5, steps)
    walk = np.cumsum(4.0 * np.stack([np.cos(headings), np.sin(headings)], axis=1), axis=0)
    return np.vstack([start, start + walk])


def _drawn(path: np.ndarray, *, thickness: float, tapered: bool = False) -> np.ndarray:
    """Draw a path as a soft line (0 to 1); a tapered one fades towards its end."""
    fine = 4
    canvas = np.zeros((SIZE[0] * fine, SIZE[1] * fine), np.uint8)
    points = np.rint((path + 0.5) * fine).astype(np.int32)
    for i, (a, b) in enumerate(zip(points[:-1], points[1:], strict=True)):
        fade = 1 - 0.55 * i / len(points) if tapered else 1.0
        cv2.line(canvas, a.tolist(), b.tolist(), 255, max(1, round(thickness * fine * fade)), cv2.LINE_8)
    return cv2.resize(canvas, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _edge_along(direction: np.ndarray) -> float:
    """Return the radius of the outer contour in one direction."""
    radii = np.arange(BODY - 12, BOLT_CIRCLE + LUG + 4, 0.5)
    x, y = np.outer(direction, radii)
    return float(radii[outline(x, y) > 0][-1])


_MAKERS: dict[str, Callable[[np.random.Generator], Layers]] = {
    "scratch": _scratch,
    "dent": _dent,
    "crack": _crack,
    "stain": _stain,
    "missing_hole": _missing_hole,
    "chipped_edge": _chipped_edge,
}
DEFECTS: tuple[str, ...] = tuple(_MAKERS)
