"""ONNX nodes that compute patch scores and image scores from a network's outputs, as the heads do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from edgead.export.onnx_nodes import Nodes

from edgead.errors import SettingsError
from edgead.heads.contract import Arrays, Head
from edgead.heads.known_defects import DEFECT_KINDS, DEFECTS, KnownDefects, fit_directions, plain
from edgead.heads.map import MapHead
from edgead.heads.nearest import BANK, NearestHead, nearest_head
from edgead.heads.patches import GRAPH_SCORE, USUAL, PatchHead

# Candidate rows, ranked by float32 products; their distances are then measured by differences.
_CANDIDATES = 4
_PRODUCTS = 1 << 23  # computed at once: 32 MiB
_FEW = 16  # rows per measured row from which grouping pays
_FAR = 1e30


@dataclass(frozen=True, slots=True)
class ScoreNodes:
    """Names of values: patch scores (n, h, w), image scores (n, 1), and a number that is finite if all outputs are."""

    patch_scores: str
    image_scores: str
    witness: str


def check_head(head: Head) -> None:
    """Raise SettingsError unless an ONNX graph can compute the scores of this head."""
    if type(head) not in (NearestHead, MapHead):
        raise SettingsError(
            f"the head {head.kind!r} cannot stand in a graph: it looks for the place of parts, remembers frames, "
            "or is of another package; heads that can are nearest and map, of patchcore, mvg, simplenet, efficient_ad "
            "and draem"
        )


def score_nodes(
    nodes: Nodes, head: PatchHead, outputs: dict[str, str], shape: tuple[int, ...], arrays: Arrays
) -> ScoreNodes:
    """Add the nodes that score the outputs of a network.

    `head`: head that `check_head` accepts.
    `outputs`: names of the network's outputs.
    `shape`: shape of the output for patch scores: (n, h, w) or (n, h, w, d).
    `arrays`: the arrays that the head's `arrays` names.
    """
    count, height, width = shape[:3]
    given = outputs[head.patches.name]
    bank = nearest_head(head) if BANK in head.arrays else None
    found = given if bank is None else _nearest(nodes, bank, given, shape, arrays[BANK])
    scores = nodes.reshape(found, count, height, width)
    witness = nodes("ReduceSum", given, keepdims=0)  # not of scores: a minimum may lose an infinity
    if head.by_place:
        scores = nodes("Sub", scores, arrays[USUAL])
    total = ""
    if head.patch_weight:
        total = _of_patches(nodes, head, scores, shape)
        total = nodes("Mul", total, np.float32(head.patch_weight))
    if head.graph_weight:
        of_graph = nodes("Mul", nodes.reshape(outputs[GRAPH_SCORE], count, 1), np.float32(head.graph_weight))
        total = nodes("Add", total, of_graph) if total else of_graph
        witness = nodes("Add", witness, nodes("ReduceSum", of_graph, keepdims=0))
    if bank is not None and bank.known is not None:
        scores, total = _joined(nodes, bank, bank.known, given, (scores, total), shape, arrays)
    return ScoreNodes(scores, total, witness)


def _joined(
    nodes: Nodes,
    head: NearestHead,
    known: KnownDefects,
    features: str,
    unknown: tuple[str, str],
    shape: tuple[int, ...],
    arrays: Arrays,
) -> tuple[str, str]:
    """Add the nodes of `KnownScorer.join`, which raises patch and image scores by the scores of known defects."""
    scores, total = unknown
    directions, offsets = fit_directions(arrays[BANK], arrays[DEFECTS], arrays[DEFECT_KINDS])
    products = nodes("MatMul", features, directions.astype(np.float32))
    kinds = directions.shape[1]
    patches = nodes("Transpose", nodes("Add", products, offsets.astype(np.float32)), perm=[0, 3, 1, 2])
    each = (shape[0] * kinds, *shape[1:3])  # treats kinds like images
    of_known = nodes.reshape(_of_patches(nodes, plain(head), nodes.reshape(patches, *each), each), shape[0], kinds)
    start, slope = np.array(known.start, np.float32), np.array(known.slope, np.float32)
    lifts = nodes("Mul", nodes("Relu", nodes("Sub", of_known, start)), slope)
    lift = nodes("ReduceMax", lifts, np.array([1]), keepdims=1)
    edges = _with_edges(nodes, nodes.reshape(patches, *each), each, head.window)
    wide = nodes.reshape(nodes("AveragePool", edges, kernel_shape=[head.window] * 2), shape[0], kinds, *shape[1:3])
    above = nodes("Relu", nodes("Sub", wide, start.reshape(1, -1, 1, 1)))
    risen = nodes("ReduceMax", nodes("Mul", above, slope.reshape(1, -1, 1, 1)), np.array([1]), keepdims=0)
    is_lifted = nodes("Greater", nodes.reshape(lift, shape[0], 1, 1), np.float32(0))
    return nodes("Where", is_lifted, nodes("Add", scores, risen), scores), nodes("Add", total, lift)


def _with_edges(nodes: Nodes, patches: str, shape: tuple[int, ...], window: int) -> str:
    """Add a node that pads patch scores (n, 1, h, w) by repeating the border, for windows around each patch."""
    before, after = window // 2, window - 1 - window // 2
    sides = np.array([0, 0, before, before, 0, 0, after, after])
    return nodes("Pad", nodes.reshape(patches, shape[0], 1, *shape[1:3]), sides, mode="edge")


def _of_patches(nodes: Nodes, head: PatchHead, scores: str, shape: tuple[int, ...]) -> str:
    """Add the nodes of `ImageScorer`: the mean of the largest window means, (n, 1)."""
    grid = shape[1], shape[2]
    rows, columns = head.inner(grid)
    inside = nodes(
        "Slice",
        scores,
        np.array([rows.start, columns.start]),
        np.array([rows.stop, columns.stop]),
        np.array([1, 2]),
    )
    sides = rows.stop - rows.start, columns.stop - columns.start
    window = head.fitting_window(grid)
    if window != (1, 1):
        inside = nodes("AveragePool", nodes.reshape(inside, shape[0], 1, *sides), kernel_shape=window)
        sides = sides[0] - window[0] + 1, sides[1] - window[1] + 1
    flat = nodes.reshape(inside, shape[0], sides[0] * sides[1])
    largest = min(head.top_patches, sides[0] * sides[1])
    if largest == 1:
        return nodes("ReduceMax", flat, np.array([1]))
    return nodes("ReduceMean", nodes.several("TopK", flat, np.array([largest]), count=2)[0], np.array([1]))


def _nearest(nodes: Nodes, head: NearestHead, features: str, shape: tuple[int, ...], bank: np.ndarray) -> str:
    """Add nodes that select rows by a matrix product and compute their exact distances, (n h w,), by subtraction."""
    count, height, width, depth = shape
    patches = count * height * width
    measured = min(head.num_neighbors + _CANDIDATES - 1, len(bank))
    group = _group_of(len(bank), measured)
    middle = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = (bank - middle).astype(np.float64)
    beyond = (0, -len(bank) % group)  # padding rows of the last group, never the nearest
    halves = np.pad((np.square(centred).sum(axis=1) / 2).astype(np.float32), beyond, constant_values=_FAR)
    turned = np.ascontiguousarray(np.pad(-centred, (beyond, (0, 0))).T, np.float32)
    flat = nodes.reshape(features, patches, depth)
    step = max(1, _PRODUCTS // len(bank))
    sizes = [min(step, patches - begin) for begin in range(0, patches, step)]
    parts = nodes.several("Split", flat, np.array(sizes), count=len(sizes), axis=0) if len(sizes) > 1 else [flat]
    # Constants that all parts share.
    turned_name, halves_name, bank_name = (nodes.constant(each) for each in (turned, halves, bank))
    found = []
    for part in parts:
        products = nodes("MatMul", nodes("Sub", part, middle), turned_name)
        rows = _least(nodes, nodes("Add", products, halves_name), len(halves), group, measured)
        rows = nodes("Min", rows, np.int64(len(bank) - 1))  # with NaN, a padding row may come out as the smallest
        differences = nodes("Sub", nodes("Gather", bank_name, rows), nodes("Unsqueeze", part, np.array([1])))
        found.append(nodes("ReduceSum", nodes("Mul", differences, differences), np.array([2]), keepdims=0))
    squares = found[0] if len(found) == 1 else nodes("Concat", *found, axis=0)
    if head.num_neighbors == 1:
        return nodes("Sqrt", nodes("ReduceMin", squares, np.array([1]), keepdims=0))
    nearest, _ = nodes.several("TopK", squares, np.array([head.num_neighbors]), count=2, largest=0)
    return nodes("ReduceMean", nodes("Sqrt", nearest), np.array([1]), keepdims=0)


def _group_of(rows: int, measured: int) -> int:
    """Choose the group size for `_least` with the least work; 1 if there are few rows anyway."""
    return round((rows / measured) ** 0.5) if rows > _FEW * measured else 1


def _least(nodes: Nodes, scores: str, count: int, group: int, least: int) -> str:
    """Add the nodes that find the indices of the `least` smallest of `count` scores, int64 (n, least).

    These scores are in the groups with the smallest minima; engines are slow at sorting a row of thousands.
    """
    if group == 1:
        return nodes.several("TopK", scores, np.array([least]), count=2, largest=0)[1]
    grouped = nodes.reshape(scores, -1, count // group, group)
    of_groups = nodes("ReduceMin", grouped, np.array([2]), keepdims=0)
    _, groups = nodes.several("TopK", of_groups, np.array([least]), count=2, largest=0)
    inside = nodes("GatherND", grouped, nodes("Unsqueeze", groups, np.array([2])), batch_dims=1)
    _, found = nodes.several("TopK", nodes.reshape(inside, -1, least * group), np.array([least]), count=2, largest=0)
    chosen = nodes("Div", found, np.int64(group))
    place = nodes("Sub", found, nodes("Mul", chosen, np.int64(group)))
    return nodes("Add", nodes("Mul", nodes("GatherElements", groups, chosen, axis=1), np.int64(group)), place)
