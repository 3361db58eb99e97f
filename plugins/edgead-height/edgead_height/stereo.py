"""Stereo matching: heights from images of two cameras side by side, by OpenCV's semi-global block matching.

Block matching prefers integer disparities, so its results are refined to the best match of windows (Lucas and Kanade,
1981). Pixels that fail the left-right check, or whose refined windows do not correlate, are holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from edgead.errors import SettingsError
from edgead.files.strict_yaml import load_yaml
from edgead.images.files import ImageError

_MAX_SIDE = 16  # largest side of a calibration's matrices
_MAX_FOCAL_PX = 1e6
_PER_PIXEL = 16  # steps of a disparity
# From OpenCV's examples: costs of a step of one disparity and of more, per value of the window; percent by which the
# best match must win; size in pixels below which a region of another disparity is noise.
_SMALL_STEP, _LARGE_STEP, _WINS_BY, _SPECKLE_PX, _SPECKLE_STEP = 8, 32, 10, 50, 1
_FROM_RIGHT = 1  # largest difference of disparity between both directions of matching
# Ours: window of the refinement, iterations, largest change, and least correlation of windows: lower ones show
# noise, or different places. Of two unrelated textures a twenty-fifth remains, of noise nothing.
_FINE_PX, _ROUNDS, _FURTHEST, _LEAST_CORRELATION = 11, 3, 1.0, 0.8
_TINY = np.float32(1e-6)

_NAMES = {
    "M1": ("M1", "cameraMatrix1", "K1"),
    "D1": ("D1", "distCoeffs1"),
    "M2": ("M2", "cameraMatrix2", "K2"),
    "D2": ("D2", "distCoeffs2"),
    "R": ("R",),
    "T": ("T",),
}


class StereoCalibration(NamedTuple):
    """Stereo calibration by `cv2.stereoCalibrate`: cameras, distortions, rotation and shift (mm) between them, size."""

    cameras: tuple[np.ndarray, np.ndarray]
    distortions: tuple[np.ndarray, np.ndarray]
    rotation: np.ndarray
    translation: np.ndarray
    size: tuple[int, int] | None  # height and width of the calibration's images


class Rectified(NamedTuple):
    """Rectified cameras with aligned rows: focal length in pixels, distance in mm, and the maps that rectify images."""

    focal_px: float
    baseline_mm: float
    maps: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """Search range of a match: least disparity and number of disparities in pixels, and the side of the window."""

    min_disparity: int = 0
    disparities: int = 128
    window: int = 5


def read_calibration(path: Path) -> StereoCalibration:
    """Read a calibration from a YAML file of OpenCV's FileStorage, with M1, D1, M2, D2, R and T, or their longer names.

    Raises ImageError: the file is missing, too large, damaged, or no plausible calibration of two cameras.
    """
    try:
        content = load_yaml(path, prepared=_plain).content
    except SettingsError as error:
        raise ImageError(str(error)) from None
    if not isinstance(content, dict):
        raise ImageError(f"{path}: no calibration as OpenCV's FileStorage writes it in YAML")
    matrices: dict[str, np.ndarray] = {}
    for name, names in _NAMES.items():
        found = next((content[one] for one in names if one in content), None)
        if found is None:
            raise ImageError(f"{path}: no {name}; a calibration has {', '.join(_NAMES)}")
        matrix = _matrix(found)
        if matrix is None:
            raise ImageError(f"{path}: {name} is no matrix of at most {_MAX_SIDE} rows and columns of numbers")
        matrices[name] = matrix
    if problem := _problem(matrices):
        raise ImageError(f"{path}: {problem}")
    cameras, distortions = ((matrices[f"{kind}1"], matrices[f"{kind}2"]) for kind in "MD")
    height, width = content.get("image_height"), content.get("image_width")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return StereoCalibration(cameras, distortions, matrices["R"], matrices["T"].reshape(3, 1), size)


def _plain(text: str) -> str:
    """Convert FileStorage's YAML to standard YAML: drop its first line, and make its matrices plain mappings."""
    return text.replace("%YAML", "#", 1).replace("!!opencv-matrix", "")


def _matrix(found: Any) -> np.ndarray | None:
    """Parse a matrix of the file, float64 (rows, columns); None if it is no matrix."""
    try:
        rows, columns, data = (found[name] for name in ("rows", "cols", "data"))
        if not (type(rows) is type(columns) is int and 0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE):
            return None
        return np.array([float(value) for value in data]).reshape(rows, columns)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _problem(matrices: dict[str, np.ndarray]) -> str | None:
    for name, matrix in matrices.items():
        if not np.isfinite(matrix).all():
            return f"{name} holds values that are no numbers"
    for name in ("M1", "M2", "R"):
        if matrices[name].shape != (3, 3):
            return f"{name} must be 3 x 3, found {matrices[name].shape}"
    if matrices["T"].size != 3 or not matrices["T"].any():
        return "T must be three numbers, the way from one camera to the other"
    if any(matrices[name].size not in (4, 5, 8, 12, 14) for name in ("D1", "D2")):
        return "D1 and D2 must have 4, 5, 8, 12 or 14 numbers"
    if any(matrices[name][0, 0] <= 0 or matrices[name][1, 1] <= 0 for name in ("M1", "M2")):
        return "M1 and M2 must have focal lengths above 0"
    if np.abs(matrices["R"] @ matrices["R"].T - np.eye(3)).max() > 1e-3:
        return "R is no rotation"
    return None


def rectified(calibration: StereoCalibration, size: tuple[int, int]) -> Rectified:
    """Compute the rectification of two calibrated cameras, which aligns their rows, by `cv2.stereoRectify`.

    `size`: height and width of the images.
    Raises ImageError: the calibration is of another image size, the cameras are swapped, or above each other.
    """
    if calibration.size not in (None, size):
        height, width = calibration.size or size
        raise ImageError(f"the calibration is of {width} x {height} pixels, the images have {size[1]} x {size[0]}")
    shape = size[::-1]
    try:
        turned = cv2.stereoRectify(
            calibration.cameras[0],
            calibration.distortions[0],
            calibration.cameras[1],
            calibration.distortions[1],
            shape,
            calibration.rotation,
            calibration.translation,
            flags=cv2.CALIB_ZERO_DISPARITY,
            alpha=0,
        )
        rotations, projections = turned[:2], turned[2:4]
        maps = tuple(
            cv2.initUndistortRectifyMap(camera, distortion, rotation, projection, shape, cv2.CV_16SC2)
            for camera, distortion, rotation, projection in zip(
                calibration.cameras, calibration.distortions, rotations, projections, strict=True
            )
        )
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot rectify by the calibration: {error.err}") from None
    focal_px, moved = float(projections[1][0, 0]), projections[1][:2, 3]
    if not (np.isfinite(moved).all() and 0 < focal_px < _MAX_FOCAL_PX):
        raise ImageError("the calibration leaves nothing that both cameras see: was it made with these images?")
    if abs(moved[1]) > abs(moved[0]):
        raise ImageError("the cameras stand above each other: turn both images by 90 degrees")
    if moved[0] > 0:
        raise ImageError("the left camera is the right one, by the calibration: name them the other way round")
    return Rectified(focal_px, float(-moved[0]) / focal_px, maps)


class StereoHeights:
    """Matcher from pairs of images to heights.

    `geometry`: `Rectified` cameras with aligned rows, or a calibration by which images are rectified.
    """

    def __init__(self, geometry: Rectified | StereoCalibration, search: Search):
        self._geometry, self._search = geometry, search
        self._rectified = geometry if isinstance(geometry, Rectified) else None
        self._size: tuple[int, int] | None = None
        per_value = search.window**2
        self._matcher = cv2.StereoSGBM.create(
            minDisparity=search.min_disparity,
            numDisparities=search.disparities,
            blockSize=search.window,
            P1=_SMALL_STEP * per_value,
            P2=_LARGE_STEP * per_value,
            disp12MaxDiff=_FROM_RIGHT,
            uniquenessRatio=_WINS_BY,
            speckleWindowSize=_SPECKLE_PX,
            speckleRange=_SPECKLE_STEP,
        )

    def of(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the rectified left image and its heights.

        `left`, `right`: ndarray of shape (H, W, 3), uint8, BGR.
        Returns image, ndarray of shape (H, W, 3), uint8, BGR.
        And heights, ndarray of shape (H, W), float32: negated distance from the left camera along its axis; NaN without
            a valid match.
        Raises ImageError: the images differ in size, or do not fit the calibration.
        """
        if left.shape != right.shape:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (left, right))
            raise ImageError(f"the cameras give {sizes} pixels, and not images of one size")
        geometry = self._fitted(left.shape[:2])
        if geometry.maps:
            left, right = (
                cv2.remap(image, *maps, cv2.INTER_LINEAR)
                for image, maps in zip((left, right), geometry.maps, strict=True)
            )
        found = self._disparity(left, right)
        with np.errstate(divide="ignore", invalid="ignore"):
            mm = -np.float32(geometry.focal_px * geometry.baseline_mm) / found
        mm[~(found > 0)] = np.nan
        return left, mm

    def _fitted(self, size: tuple[int, int]) -> Rectified:
        if isinstance(self._geometry, StereoCalibration) and size != self._size:
            self._rectified = rectified(self._geometry, size)
        self._size = size
        assert self._rectified is not None
        return self._rectified

    def _disparity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Compute the disparity of each pixel of the left image, float32 (H, W); NaN if there is none."""
        # OpenCV ignores pixels nearer to the left edge than the largest disparity, so images are widened by it.
        margin = max(0, self._search.min_disparity + self._search.disparities)
        grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (left, right)]
        wide = [cv2.copyMakeBorder(image, 0, 0, margin, 0, cv2.BORDER_REPLICATE) for image in grey]
        found = self._matcher.compute(*wide)[:, margin:].astype(np.float32) / _PER_PIXEL
        beyond = np.arange(found.shape[1], dtype=np.float32) < found  # outside of the right image
        known = (found >= self._search.min_disparity) & ~beyond
        return refined(grey[0].astype(np.float32), grey[1].astype(np.float32), found, known)


def refined(left: np.ndarray, right: np.ndarray, disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Refine disparities to the best match of windows in both images; NaN if these do not correlate.

    `left`, `right`, `disparity`: ndarray of shape (H, W), float32.
    `known`: ndarray of shape (H, W), bool.
    Returns ndarray of shape (H, W), float32.
    """
    weight = known.astype(np.float32)
    share = np.maximum(_windows(weight), _TINY)
    columns, rows = (axis.astype(np.float32) for axis in np.meshgrid(*(np.arange(side) for side in left.shape[::-1])))
    start = np.where(known, disparity, 0)
    found, own = start, weight * (left - _windows(weight * left) / share)
    power, correlation = _windows(own * own), np.zeros_like(left)
    for turn in range(_ROUNDS + 1):
        seen = cv2.remap(right, columns - found, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        across = weight * cv2.Sobel(seen, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
        seen = weight * (seen - _windows(weight * seen) / share)
        # Normalised to equal brightness of both cameras.
        gain = np.sqrt(power / np.maximum(_windows(seen * seen), _TINY))
        seen, across = gain * seen, gain * across
        if turn == _ROUNDS:
            correlation = _windows(own * seen) / np.maximum(np.sqrt(power * _windows(seen * seen)), _TINY)
            break
        step = -_windows(across * (own - seen)) / np.maximum(_windows(across * across), _TINY)
        found = np.clip(found + step, start - _FURTHEST, start + _FURTHEST)
    return np.where(known & (correlation >= _LEAST_CORRELATION), found, np.float32(np.nan))


def _windows(values: np.ndarray) -> np.ndarray:
    """Compute the mean of a window around each pixel."""
    return cv2.boxFilter(values, cv2.CV_32F, (_FINE_PX, _FINE_PX), borderType=cv2.BORDER_REFLECT_101)
