"""Height maps of point clouds, seen from above on a grid in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from edgead.images.files import MAX_MEGAPIXELS, ImageError, check_size
from edgead_height.clouds import Cloud, load_cloud

# Mean number of points in a cell: of randomly placed points, two of a hundred cells stay empty.
_POINTS_A_CELL = 4
_COARSE = 4  # side of cells by which the covered area is measured, in mean distances of points
# `--input relief` takes a height of 0 for a hole.
_NOT_QUITE_0 = np.float32(1e-6)

Z = Literal["up", "away"]
"""Direction of z: up, towards a viewer of the part; or away from the camera, with y downwards."""
Progress = Callable[[str, int, int], None]


class Area(NamedTuple):
    """Area of a map: the ranges of x and y in mm."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def mirrored(self) -> Area:
        """Return the area with y reversed."""
        return Area(self.x0, -self.y1, self.x1, -self.y0)


class Grid(NamedTuple):
    """Common grid of a part's maps: its area in mm of the clouds' x and y, and the size of a pixel in mm."""

    area: Area
    mm_per_pixel: float


class HeightMap(NamedTuple):
    """Height map in mm towards the viewer, float32 (h, w), NaN for holes; BGR, uint8 (h, w, 3); mm per pixel."""

    mm: np.ndarray
    image: np.ndarray | None
    mm_per_pixel: float


def find_grid(
    paths: Sequence[Path],
    *,
    mm_per_pixel: float | None = None,
    mm_per_unit: float = 1.0,
    z: Z = "up",
    progress: Progress | None = None,
) -> Grid | None:
    """Find the grid that covers all clouds; None if all are organised and keep their own grids.

    `mm_per_pixel`: size of a pixel; by default organised clouds are ignored, and the others get four points per pixel.
    `z`: {"up", "away"}.
    Raises ImageError: a cloud cannot be read, or has no area.
    """
    areas, spacings = [], []
    for number, path in enumerate(paths):
        cloud = load_cloud(path)
        if mm_per_pixel is not None or cloud.grid is None:
            placed = to_mm(cloud, mm_per_unit, z)
            areas.append(area_of(placed))
            if mm_per_pixel is None:
                with _about(path):
                    spacings.append(spacing_of(placed))
        if progress is not None:
            progress("looking at clouds", number + 1, len(paths))
    if not areas:
        return None
    columns = list(zip(*areas, strict=True))
    area = Area(min(columns[0]), min(columns[1]), max(columns[2]), max(columns[3]))
    return Grid(_own(area, z), mm_per_pixel or float(np.median(spacings)))


def height_maps(
    paths: Iterable[Path], grid: Grid | None, *, mm_per_unit: float = 1.0, z: Z = "up", organised: bool = True
) -> Iterator[tuple[Path, HeightMap]]:
    """Yield the height map of each cloud.

    `grid`: common grid; None if all clouds are organised.
    `z`: {"up", "away"}.
    `organised`: whether organised clouds keep their own grid.
    Raises ImageError: a cloud cannot be read, or has no point on the grid.
    """
    for path in paths:
        cloud = load_cloud(path)
        if cloud.grid is not None and (organised or grid is None):
            yield path, organised_map(cloud, mm_per_unit, z)
        else:
            assert grid is not None
            placed, area = to_mm(cloud, mm_per_unit, z), _own(grid.area, z)
            with _about(path):
                found = projected_map(cloud, placed, area, grid.mm_per_pixel)
            yield path, found


@contextmanager
def _about(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _own(area: Area, z: Z) -> Area:
    """Convert an area from the cloud's x and y to columns and rows, or back."""
    return area.mirrored if z == "up" else area


def to_mm(cloud: Cloud, mm_per_unit: float, z: Z) -> np.ndarray:
    """Convert known points to columns (right), rows (down) and heights (towards the viewer), float64 (n, 3) in mm."""
    points = cloud.points.astype(np.float64) * mm_per_unit
    # Seen from above y points up in the image, seen by a camera it points down: neither view is mirrored.
    return points * ((1, 1, -1) if z == "away" else (1, -1, 1))


def area_of(placed: np.ndarray) -> Area:
    """Compute the area covered by all points of a cloud; `placed` is the result of `to_mm`."""
    low, high = np.nanmin(placed[:, :2], axis=0), np.nanmax(placed[:, :2], axis=0)
    return Area(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def spacing_of(placed: np.ndarray) -> float:
    """Compute the pixel size in mm, rounded to two digits, at which non-empty pixels have four points on average.

    Raises ImageError: the points lie on a line.
    """
    known = placed[np.isfinite(placed[:, 2]), :2]
    low, high = known.min(axis=0), known.max(axis=0)
    coarse = _COARSE * float(np.sqrt(np.prod(high - low) / len(known)))
    if not coarse:
        raise ImageError("all of its points lie on a line across: it has no area to show")
    columns, rows = ((known - low) / coarse).astype(np.int64).T
    covered = len(np.unique(rows * (int(columns.max()) + 1) + columns)) * coarse**2
    return float(f"{np.sqrt(_POINTS_A_CELL * covered / len(known)):.2g}")


def organised_map(cloud: Cloud, mm_per_unit: float, z: Z) -> HeightMap:
    """Make the height map of an organised cloud on its own grid, the pixels of its camera."""
    assert cloud.grid is not None
    placed = to_mm(cloud, mm_per_unit, z).reshape(*cloud.grid, 3)
    steps = np.abs(np.diff(placed[:, :, 0], axis=1))
    known = np.isfinite(steps)
    mm_per_pixel = float(np.median(steps[known])) if known.any() else float("nan")
    colours = None if cloud.colours is None else cloud.colours.reshape(*cloud.grid, 3)
    return HeightMap(_written(placed[:, :, 2]), colours, mm_per_pixel)


def projected_map(cloud: Cloud, placed: np.ndarray, area: Area, mm_per_pixel: float) -> HeightMap:
    """Make the height map of a cloud from above: the highest point of each cell with its colour; empty cells are holes.

    `placed` (ndarray of shape (n, 3), float64): points of the cloud by `to_mm`.
    Raises ImageError: the cloud has no point in the area, or the map would be too large.
    """
    width, height = map_size(area, mm_per_pixel)
    with np.errstate(invalid="ignore"):
        columns, rows = (np.floor((placed[:, axis] - area[axis]) / mm_per_pixel) for axis in (0, 1))
        inside = np.flatnonzero((columns >= 0) & (columns < width) & (rows >= 0) & (rows < height))
    if not len(inside):
        raise ImageError(f"none of its points lies within x, y of {', '.join(f'{side:g}' for side in area)} mm")
    inside = inside[np.argsort(placed[inside, 2], kind="stable")]  # the last point in a cell stays
    cells = (rows[inside] * width + columns[inside]).astype(np.int64)
    mm = np.full(height * width, np.nan)
    mm[cells] = placed[inside, 2]
    image: np.ndarray | None = None
    if cloud.colours is not None:
        image = np.zeros((height * width, 3), np.uint8)
        image[cells] = cloud.colours[inside]
        image = image.reshape(height, width, 3)
    return HeightMap(_written(mm.reshape(height, width)), image, mm_per_pixel)


def map_size(area: Area, mm_per_pixel: float) -> tuple[int, int]:
    """Compute width and height in pixels of a map of an area.

    Raises ImageError: the map would be too large.
    """
    width, height = (int((high - low) / mm_per_pixel) + 1 for low, high in ((area.x0, area.x1), (area.y0, area.y1)))
    try:
        check_size((height, width), MAX_MEGAPIXELS)
    except ImageError:
        raise ImageError(
            f"a map of {area.x1 - area.x0:g} x {area.y1 - area.y0:g} mm at {mm_per_pixel:g} mm per pixel would have "
            f"{width} x {height} pixels: a point may lie far off; say the area, or larger pixels"
        ) from None
    return width, height


def _written(mm: np.ndarray) -> np.ndarray:
    """Replace heights of 0, which `--input relief` takes for holes, by a tiny height; float32."""
    heights = np.ascontiguousarray(mm, np.float32)
    heights[heights == 0] = _NOT_QUITE_0
    return heights
