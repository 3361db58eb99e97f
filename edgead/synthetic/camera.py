"""Rendering of the camera above the demo line: lights, conveyor, shading, lens and sensor.

Lights are fixed while parts turn under them, so highlights do not turn with the part. Every random choice
of one image is in its `Scene`; the textures that scenes choose from are made once and are the same
for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from edgead.synthetic.part import CENTRE, SIZE, Layers, build_layers

_TILE = 1024
_MARGIN = 32  # largest offset of the part from the middle in pixels
_RUBBER = (1.04, 1.0, 0.96)  # the conveyor's tint, BGR
_KEY_LIGHT = np.array([-0.46, -0.58, 0.67])


@dataclass(frozen=True)
class Scene:
    """Random choices of one image of a part; the last three fields differ only between batches."""

    shift: tuple[float, float]
    angle: float
    scale: float
    gain: float
    warmth: float
    defocus: float
    lathe_phase: int
    offsets: tuple[tuple[int, int], ...]  # into the tiles: casting, mottling, conveyor, noise
    fall: tuple[float, float] = (0.0, 0.0)  # fall of the light, from the middle to the right and the lower edge
    roughness: float = 1.0
    mottling: float = 1.0


def draw_scene(seed: int) -> Scene:
    """Draw the pose, exposure, focus and textures of the part number `seed`."""
    rng = np.random.default_rng([seed, 0])
    x, y = np.clip(rng.normal(0, 4.5, 2), -14, 14)
    return Scene(
        shift=(float(x), float(y)),
        angle=float(np.clip(rng.normal(0, 3.0), -9, 9)),
        scale=float(1 + np.clip(rng.normal(0, 0.005), -0.015, 0.015)),
        gain=float(np.exp(np.clip(rng.normal(0, 0.045), -0.12, 0.12))),
        warmth=float(rng.normal(0, 0.006)),
        defocus=float(rng.uniform(0.45, 0.85)),
        lathe_phase=int(rng.integers(4096)),
        offsets=tuple((int(a), int(b)) for a, b in rng.integers(0, _TILE - SIZE[0], (4, 2))),
    )


def photograph(layers: Layers, scene: Scene) -> np.ndarray:
    """Render the image of a part as the lens projects it, before the sensor's noise.

    Returns ndarray of shape (480, 480, 3), float32: BGR in grey levels; highlights may exceed 255.
    """
    pose = _pose(scene)
    surface = cv2.warpAffine(layers.surface, pose, SIZE[::-1], flags=cv2.INTER_LINEAR)
    colour = cv2.warpAffine(layers.colour, pose, SIZE[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    *tint, coverage = cv2.split(colour)
    light = _light_over(scene)
    brightness = _reflection(surface, scene) * light
    conveyor = _conveyor_under(scene) * light
    planes = []
    for reflectance, rubber, balance in zip(tint, _RUBBER, (1 - scene.warmth, 1, 1 + scene.warmth), strict=True):
        behind = conveyor * np.float32(rubber)
        plane = (reflectance * brightness - behind) * coverage + behind
        planes.append(plane * np.float32(balance))
    return cv2.GaussianBlur(cv2.merge(planes), (5, 5), scene.defocus)


def expose(image: np.ndarray, scene: Scene) -> np.ndarray:
    """Add the sensor's noise (shot and read noise) and convert to 8 bits."""
    noise = _crop(_noise_tile(), scene.offsets[3])
    deviation = np.sqrt(np.maximum(image, 0) * np.float32(0.011) + np.float32(0.5))
    return cv2.add(image, cv2.multiply(noise, deviation), dtype=cv2.CV_8U)


def _light_over(scene: Scene) -> np.ndarray:
    right, down = (np.linspace(-fall, fall, SIZE[0], dtype=np.float32) for fall in scene.fall)
    # Without a fall this adds 0, which changes no bit.
    return (_light_field() + right + down[:, None]) * np.float32(scene.gain)


def _pose(scene: Scene) -> np.ndarray:
    pose: np.ndarray = cv2.getRotationMatrix2D((CENTRE[1], CENTRE[0]), -scene.angle, scene.scale)
    pose[:, 2] += scene.shift
    return pose


def _reflection(surface: np.ndarray, scene: Scene) -> np.ndarray:
    """Shade the surface: the lights that its normals reflect, plus the lathe's bow-tie highlight."""
    right, down, polish, turned = cv2.split(surface)
    turn = np.deg2rad(scene.angle)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    cast = (np.float32(1.06) - polish) * np.float32(scene.roughness)
    grain = _crop(_casting_tile(), scene.offsets[0])
    x = cos * right - sin * down + grain[..., 0] * cast
    y = sin * right + cos * down + grain[..., 1] * cast
    # The normal's sideways part is looked up in images of a rough and a smooth ball under the lights.
    half = np.float32(_BALL / 2)
    norm = half / cv2.sqrt(x * x + y * y + 1)
    seen = cv2.remap(_lit_balls(), x * norm + half, y * norm + half, cv2.INTER_LINEAR)
    rough, smooth = cv2.split(seen)
    light = rough + polish * (smooth - rough)
    # Differences of numbers near 1 are exact: a strength of 1 changes no bit.
    light = light * (1 + (_crop(_mottling_tile(), scene.offsets[1]) - 1) * np.float32(scene.mottling))

    corner = (_MARGIN - round(scene.shift[1]), _MARGIN - round(scene.shift[0]))
    streak = _crop(_lathe_streak(), corner)
    marks = np.take(_lathe_profile(), _crop(_lathe_radius(), corner) + scene.lathe_phase)
    light *= 1 + turned * (streak * (1 + marks) + marks * np.float32(0.35) - np.float32(0.12))
    return light


def _conveyor_under(scene: Scene) -> np.ndarray:
    """Return the conveyor with the part's soft shadow on it."""
    # A flawed part gets the good part's shadow, so that the mask marks the flaw and not its shadow.
    shadow = cv2.warpAffine(_shadow(), _pose(scene), SIZE[::-1], borderMode=cv2.BORDER_REPLICATE)
    return _crop(_conveyor_tile(), scene.offsets[2]) * shadow


def _crop(tile: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    return tile[corner[0] : corner[0] + SIZE[0], corner[1] : corner[1] + SIZE[1]]


def _cloud(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Return smooth noise of unit deviation, (_TILE, _TILE) float32."""
    small = max(1.0, sigma / 3)
    side = int(np.ceil(_TILE / small))
    noise: np.ndarray = rng.standard_normal((side, side), dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma / small, borderType=cv2.BORDER_REFLECT)
    noise = cv2.resize(noise, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    return (noise - noise.mean()) / noise.std()


_BALL = 256


@lru_cache(maxsize=1)
def _lit_balls() -> np.ndarray:
    """Paint a rough and a smooth metal ball under the line's lights, (257, 257, 2) float32 grey levels."""
    y, x = np.mgrid[-1 : 1 : (_BALL + 1) * 1j, -1 : 1 : (_BALL + 1) * 1j].astype(np.float32)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0.0, 1))
    toward = _KEY_LIGHT[0] * x + _KEY_LIGHT[1] * y + _KEY_LIGHT[2] * z
    diffuse = np.clip(toward, 0, None)
    # Mirror the line of sight (0, 0, 1) at the normal; the lamp is a wide panel in direction of the key light.
    mirrored = np.stack([2 * z * x, 2 * z * y, 2 * z * z - 1])
    at_lamp = np.tensordot(_KEY_LIGHT, mirrored, axes=1)
    glow = np.exp((at_lamp - 1) * 3.0)
    lamp = 1 / (1 + np.exp(-(at_lamp - 0.88) * 26))
    rim = np.clip(1 - z, 0, 1) ** 2
    rough = 22 + 128 * diffuse + 78 * glow + 14 * rim
    smooth = 30 + 78 * diffuse + 135 * glow + 125 * lamp + 25 * rim
    return np.dstack([rough, smooth]).astype(np.float32)


@lru_cache(maxsize=1)
def _light_field() -> np.ndarray:
    """Return the unevenness of the lighting and the lens's vignette, (480, 480) float32 around 1."""
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
    field = 1.02 + 0.13 * (-0.6 * x - 0.75 * y) - 0.07 * (x * x + y * y)
    return field.astype(np.float32)


@lru_cache(maxsize=1)
def _casting_tile() -> np.ndarray:
    """Return slopes of the cast skin, (_TILE, _TILE, 2) float32."""
    rng = np.random.default_rng(11)
    height = 0.30 * _cloud(rng, 0.9) + 0.30 * _cloud(rng, 1.7) + 0.5 * _cloud(rng, 8.0)
    pits = np.clip(_cloud(rng, 1.8) - 2.1, 0, None)
    down, right = np.gradient(height - 0.8 * pits)
    return np.dstack([-right, -down]).astype(np.float32) * np.float32(0.5)


@lru_cache(maxsize=1)
def _mottling_tile() -> np.ndarray:
    rng = np.random.default_rng(12)
    return 1 + np.float32(0.022) * _cloud(rng, 28.0) + np.float32(0.012) * _cloud(rng, 4.0)


@lru_cache(maxsize=1)
def _conveyor_tile() -> np.ndarray:
    """Return the rubber conveyor: grain, fabric imprint, scuffs along its run and dust; grey levels."""
    rng = np.random.default_rng(13)
    y, x = np.mgrid[:_TILE, :_TILE].astype(np.float32)
    weave = np.sin(x * np.float32(2 * np.pi / 7.3)) * np.sin(y * np.float32(2 * np.pi / 7.3))
    scuffs = cv2.resize(_cloud(rng, 2.0)[:, : _TILE // 16], (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    rubber = 43 + 2.6 * weave + 2.2 * _cloud(rng, 0.9) + 2.0 * _cloud(rng, 22.0) + 1.5 * scuffs
    dust = np.clip(_cloud(rng, 0.8) - 3.3, 0, None)
    return (rubber + 26 * dust).astype(np.float32)


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    return np.random.default_rng(14).standard_normal((_TILE, _TILE, 3), dtype=np.float32)


@lru_cache(maxsize=1)
def _shadow() -> np.ndarray:
    """Return the light that reaches the conveyor around the upright part: contact shadow and cast shadow."""
    coverage = build_layers().colour[..., 3]
    light = np.ones(SIZE, np.float32)
    for distance, sigma, depth in ((0, 2.5, 0.35), (7, 6.0, 0.45), (14, 13.0, 0.35)):
        away = -_KEY_LIGHT[:2] / np.hypot(*_KEY_LIGHT[:2]) * distance
        moved = cv2.warpAffine(coverage, np.array([[1, 0, away[0]], [0, 1, away[1]]]), SIZE[::-1])
        light *= 1 - np.float32(depth) * cv2.GaussianBlur(moved, (0, 0), sigma)
    return light


def _lathe_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y relative to the part for a field wide enough to be cropped at any shift."""
    y, x = np.mgrid[: SIZE[0] + 2 * _MARGIN, : SIZE[1] + 2 * _MARGIN].astype(np.float32)
    return x - np.float32(CENTRE[1] + _MARGIN), y - np.float32(CENTRE[0] + _MARGIN)


@lru_cache(maxsize=1)
def _lathe_streak() -> np.ndarray:
    """Return the highlight of concentric grooves: bright where the groove runs across the light.

    Kajiya and Kay, "Rendering fur with three dimensional textures", SIGGRAPH 1989: a thread mirrors a lamp
    wherever it is perpendicular to the halfway vector.
    """
    x, y = _lathe_grid()
    radius = np.hypot(x, y) + 1
    lit = np.zeros(x.shape, np.float32)
    for (light_x, light_y), width, power in (((-0.62, -0.78), 0.30, 0.55), ((0.9, -0.42), 0.22, 0.22)):
        along = (-y * light_x + x * light_y) / radius
        lit += power * np.exp(-((along / width) ** 2))
    return lit.astype(np.float32)


@lru_cache(maxsize=1)
def _lathe_radius() -> np.ndarray:
    return (np.hypot(*_lathe_grid()) * 3).astype(np.int32)


@lru_cache(maxsize=1)
def _lathe_profile() -> np.ndarray:
    """Return the roughness across the grooves, three samples a pixel of radius, longer than any phase."""
    rng = np.random.default_rng(15)
    fine = rng.standard_normal(8192)
    waves = np.convolve(rng.standard_normal(8192), np.hanning(15), mode="same")
    smooth = np.convolve(fine, np.hanning(5), mode="same")
    return (0.09 * smooth / smooth.std() + 0.06 * waves / waves.std()).astype(np.float32)
