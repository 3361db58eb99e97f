"""Preprocessing within an ONNX graph, bit for bit as in `edgead.artifact.preprocess`.

Integers below 2^24 are exact in float32, so that the integer arithmetic of `edgead.kernels.shrink` and OpenCV is done
in float32 here, which every runtime has. If OpenCV itself computes in float32, products and sums are in its order, with
a copying node between a product and a sum: a runtime that rounded the two only once would round other pixels up.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import onnx
from edgead.export.onnx_nodes import Nodes

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import NEUTRAL_BGR, OFTEN, covered, inputs_of, polygons_in
from edgead.errors import SettingsError

_EXACT = 1 << 24
_BYTE = 256  # divisor by which sums are split that would exceed 2^24
_DENSE = 32  # most rows of a matrix for one block: larger ones are mostly zeros
_TINY = 1e-3  # smaller parts of a pixel are ignored by OpenCV
_ONE, _SHIFT = 2048, 16  # OpenCV's interpolation weights: unit, and bits of a sum dropped first

_Taps = tuple[np.ndarray, np.ndarray]
"""Positions of the inputs of each output, and their weights, (outputs, taps) each; 0 beyond the last."""


def input_nodes(nodes: Nodes, image: str, spec: Preprocessing, shape: tuple[int, int]) -> str:
    """Add the nodes that preprocess an image, uint8 BGR (H, W, 3).

    `spec`: preprocessing of colours, without alignment.
    `shape`: height and width of the image.
    Returns the network's input, uint8 RGB (n, h, w, 3): one for each tile.
    Raises SettingsError: the region or a tile is not inside the image, or the sizes lead to numbers that are not exact
        in float32.
    """
    parts = inputs_of(spec, shape)
    regions = [one.region(shape) for one in parts]
    if any(x + width > shape[1] or y + height > shape[0] for x, y, width, height in regions):
        raise SettingsError(
            f"the region of interest {spec.roi} does not fit in images of {shape[1]}x{shape[0]}: give the size of the "
            "images that the model was trained on"
        )
    (_, _, width, height), *_ = regions
    value = _cut(nodes, image, regions)
    if spec.ignored is not None:
        masks = [cv2.fillPoly(np.zeros((height, width), np.uint8), polygons_in(one, shape), 1) > 0 for one in parts]
        value = nodes("Where", np.stack(masks)[..., None], np.array(NEUTRAL_BGR, np.uint8), value)
    # Each colour is a plane until the end, as engines copy whole rows faster than pixels of three values.
    value = nodes("Gather", nodes("Transpose", value, perm=[0, 3, 1, 2]), np.array([2, 1, 0]), axis=1)
    value = nodes.reshape(value, 3 * len(parts), height, width)
    rows, columns = covered(parts[0], shape)
    value = _resized(nodes, value, (height, width), (rows.stop - rows.start, columns.stop - columns.start))
    for axis, side, shown in ((1, spec.image_size[0], rows), (2, spec.image_size[1], columns)):
        if shown != slice(0, side):
            value = nodes("Gather", value, _mirrored(side, shown), axis=axis)
    value = nodes.reshape(nodes("Cast", value, to=onnx.TensorProto.UINT8), len(parts), 3, *spec.image_size)
    return nodes("Transpose", value, perm=[0, 2, 3, 1])


def _cut(nodes: Nodes, image: str, regions: list[tuple[int, int, int, int]]) -> str:
    """Crop regions of one size from an image: (n, H, W, 3)."""
    parts = []
    for x, y, width, height in regions:
        part = nodes("Slice", image, np.array([y, x]), np.array([y + height, x + width]), np.array([0, 1]))
        parts.append(nodes.reshape(part, 1, height, width, 3))
    return nodes("Concat", *parts, axis=0)


def _mirrored(side: int, shown: slice) -> np.ndarray:
    """Indices of source pixels, one for each pixel of a padded side, as in `cv2.copyMakeBorder` with REFLECT_101."""
    line = np.arange(shown.stop - shown.start, dtype=np.int32)[None]
    filled = cv2.copyMakeBorder(line, 0, 0, shown.start, side - shown.stop, cv2.BORDER_REFLECT_101)
    return filled[0].astype(np.int64)


def _resized(nodes: Nodes, value: str, source: tuple[int, int], target: tuple[int, int]) -> str:
    """Add the nodes of `area_linear`: planes of uint8 (n, H, W) to integers in float32, (n, h, w)."""
    shrunk = min(target[0], source[0]), min(target[1], source[1])
    if all(now >= OFTEN * then for now, then in zip(source, shrunk, strict=True)):
        value = _mean_in_whole_numbers(nodes, value, source, shrunk)
    elif shrunk != source:
        value = _mean_of_opencv(nodes, value, source, shrunk)
    else:
        value = nodes("Cast", value, to=onnx.TensorProto.FLOAT)
    return value if shrunk == target else _between_of_opencv(nodes, value, shrunk, target)


def _mean_in_whole_numbers(nodes: Nodes, value: str, source: tuple[int, int], target: tuple[int, int]) -> str:
    """Add the nodes of `edgead.kernels.shrink`: the exact mean, rounded half to even."""
    units = math.prod(then // math.gcd(then, now) for then, now in zip(source, target, strict=True))
    if 2 * units >= _EXACT:
        raise SettingsError(
            f"{source[1]}x{source[0]} pixels become {target[1]}x{target[0]}, and the sizes have so few divisors in "
            "common that float32 does not hold the sums: train with --roi, a region of interest whose sides are "
            "multiples of 8"
        )
    sums = _summed_rows(nodes, value, source[0], target[0])
    parts = [sums]
    if 255 * units >= _EXACT:
        upper = nodes.floor_of(sums, _BYTE)
        parts = [upper, nodes("Sub", sums, nodes("Mul", upper, np.float32(_BYTE)))]
    parts = [_summed_columns(nodes, part, source[1], target[1]) for part in parts]
    # A first guess may be off by one; its exact remainder tells where.
    total = parts[0] if len(parts) == 1 else nodes("Add", nodes("Mul", parts[0], np.float32(_BYTE)), parts[1])
    guess = nodes("Round", nodes("Mul", total, np.float32(1 / units)))
    if len(parts) == 1:
        rest = nodes("Sub", total, nodes("Mul", guess, np.float32(units)))
    else:
        upper, lower = (
            nodes("Sub", part, nodes("Mul", guess, np.float32(of_units)))
            for part, of_units in zip(parts, divmod(units, _BYTE), strict=True)
        )
        rest = nodes("Add", nodes("Mul", upper, np.float32(_BYTE)), lower)
    odd = nodes("Sub", guess, nodes("Mul", nodes.floor_of(guess, 2), np.float32(2)))
    limit = nodes("Sub", np.float32(units), nodes("Mul", odd, np.float32(0.5)))  # half of a unit is rounded to even
    twice = nodes("Mul", rest, np.float32(2))
    up, down = (
        nodes("Cast", nodes("Greater", side, limit), to=onnx.TensorProto.FLOAT) for side in (twice, nodes("Neg", twice))
    )
    return nodes("Sub", nodes("Add", guess, up), down)


def _mean_of_opencv(nodes: Nodes, value: str, source: tuple[int, int], target: tuple[int, int]) -> str:
    """Add the nodes of `cv2.INTER_AREA` of uint8: integer sums for integer factors, else float32 in OpenCV's order."""
    factors = [1 / (now / then) for then, now in zip(source, target, strict=True)]
    if any(abs(factor - round(factor)) >= np.finfo(float).eps for factor in factors):
        value = _turned(nodes, _weighted_rows(nodes, _turned(nodes, value), _area_of_opencv(source[1], target[1])))
        return nodes("Round", _weighted_rows(nodes, value, _area_of_opencv(source[0], target[0])))
    value = _summed_rows(nodes, value, source[0], target[0])
    value = _summed_columns(nodes, value, source[1], target[1])
    if [round(factor) for factor in factors] == [2, 2]:  # OpenCV rounds half up here
        return nodes.floor_of(nodes("Add", value, np.float32(2)), 4)
    return nodes("Round", nodes("Mul", value, np.float32(1 / round(math.prod(factors)))))


def _between_of_opencv(nodes: Nodes, value: str, source: tuple[int, int], target: tuple[int, int]) -> str:
    """Add the nodes of `cv2.INTER_LINEAR` of uint8, which has weights in units of 1/2048 and drops bits twice."""
    value = _turned(nodes, value)
    first, second = (
        nodes("Mul", nodes("Gather", value, place, axis=1), weight)
        for place, weight in _between(source[1], target[1], inside=True)
    )
    value = nodes.floor_of(_turned(nodes, nodes("Add", first, second)), 16)
    # A product with a weight would exceed 2^24, so the value is split into two parts.
    upper = nodes.floor_of(value, 64)
    lower = nodes("Sub", value, nodes("Mul", upper, np.float32(64)))
    halves = []
    for place, weight in _between(source[0], target[0], inside=False):
        of_upper, of_lower = (nodes("Mul", nodes("Gather", part, place, axis=1), weight) for part in (upper, lower))
        halves.append(nodes.floor_of(nodes("Add", of_upper, nodes.floor_of(of_lower, 64)), (1 << _SHIFT) // 64))
    return nodes.floor_of(nodes("Add", nodes("Add", *halves), np.float32(2)), 4)


def _turned(nodes: Nodes, value: str) -> str:
    """Transpose planes."""
    return nodes("Transpose", value, perm=[0, 2, 1])


def _summed_rows(nodes: Nodes, value: str, source: int, target: int) -> str:
    """Add the nodes that sum the rows covered by each output, in integers: (n, H, W) to float32 (n, h, W)."""
    common = math.gcd(source, target)
    if target // common <= _DENSE:
        blocks = nodes.reshape(nodes("Cast", value, to=onnx.TensorProto.FLOAT), 0, common, source // common, -1)
        return nodes.reshape(nodes("MatMul", _block(source, target), blocks), 0, target, -1)
    places, weights = _shares(source, target)
    rows = nodes("Cast", nodes("Gather", value, places, axis=1), to=onnx.TensorProto.FLOAT)
    return nodes("Squeeze", nodes("MatMul", weights[:, None], rows), np.array([2]))


def _summed_columns(nodes: Nodes, value: str, source: int, target: int) -> str:
    """Add the nodes that sum columns in the same way."""
    common = math.gcd(source, target)
    if target // common <= _DENSE:
        blocks = nodes.reshape(nodes("Cast", value, to=onnx.TensorProto.FLOAT), 0, 0, common, source // common)
        product = nodes("MatMul", blocks, np.ascontiguousarray(_block(source, target).T))
        return nodes.reshape(product, 0, 0, target)
    return _turned(nodes, _summed_rows(nodes, _turned(nodes, value), source, target))


def _block(source: int, target: int) -> np.ndarray:
    """Matrix of overlaps for one block of outputs that covers whole pixels; all blocks have the same."""
    common = math.gcd(source, target)
    places, weights = _shares(source, target)
    matrix = np.zeros((target // common, source // common), np.float32)
    outputs = np.arange(len(matrix))[:, None]
    np.add.at(matrix, (outputs, np.minimum(places[: len(matrix)], matrix.shape[1] - 1)), weights[: len(matrix)])
    return matrix


def _weighted_rows(nodes: Nodes, value: str, taps: _Taps) -> str:
    """Add the nodes of weighted sums of rows, in OpenCV's order: (n, H, W) to float32 (n, h, W)."""
    places, weights = taps
    count, most = places.shape
    rows = nodes("Cast", nodes("Gather", value, places.T.reshape(-1), axis=1), to=onnx.TensorProto.FLOAT)
    products = nodes("Mul", rows, weights.T.reshape(-1, 1))
    if most == 1:
        return products
    sums, *others = nodes.several("Split", products, np.full(most, count), count=most, axis=1)
    for other in others:
        sums = nodes("Add", sums, other)
    return sums


def _shares(source: int, target: int) -> _Taps:
    """Compute the overlap of each pixel with every output, in the unit that makes overlaps integers."""
    common = math.gcd(source, target)
    cell, covers = target // common, source // common
    begins = np.arange(target)[:, None] * covers
    places = begins // cell + np.arange(-(-covers // cell) + 1)
    edges = np.clip(np.stack([places, places + 1]) * cell, begins, begins + covers)
    return _narrowed(places, edges[1] - edges[0], source)


def _area_of_opencv(source: int, target: int) -> _Taps:
    """Compute the table of `cv2.INTER_AREA`, with its rounding."""
    scale = 1 / (target / source)
    rows: list[dict[int, float]] = []
    for number in range(target):
        begin, end = number * scale, number * scale + scale
        covers = min(scale, source - begin)
        last = min(math.floor(end), source - 1)
        first = min(math.ceil(begin), last)
        row = {place: 1 / covers for place in range(first, last)}
        if first - begin > _TINY:
            row = {first - 1: (first - begin) / covers, **row}
        if end - last > _TINY:
            row[last] = min(end - last, 1.0, covers) / covers
        rows.append(row)
    most = max(map(len, rows))
    places = np.array([[*row, *[source] * (most - len(row))] for row in rows])
    return _narrowed(places, np.array([[*row.values(), *[0.0] * (most - len(row))] for row in rows]), source)


def _narrowed(places: np.ndarray, weights: np.ndarray, source: int) -> _Taps:
    """Remove taps that no output uses; places beyond the last pixel get weight 0 and the last pixel's index."""
    used = weights.any(axis=0)
    return np.minimum(places[:, used], source - 1), weights[:, used].astype(np.float32)


def _between(source: int, target: int, *, inside: bool) -> list[_Taps]:
    """Compute the two source places of each output of `cv2.INTER_LINEAR`, and their weights, (outputs, 1).

    Along rows places beyond the border are clamped (`inside`) before weights are computed; along columns each of the
    two places is clamped, and their halves are rounded down one by one.
    """
    at = ((np.arange(target) + 0.5) * (1 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(at)
    part = at - first
    if inside:
        part[(first < 0) | (first >= source - 1)] = 0
        first = np.clip(first, 0, source - 1)
    weights = [np.rint(each * np.float32(_ONE)).astype(np.float32)[:, None] for each in (1 - part, part)]
    return [(np.clip(first + step, 0, source - 1).astype(np.int64), weights[step]) for step in (0, 1)]
