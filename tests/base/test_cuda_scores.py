"""What the products of the CUDA search say of groups of rows, in every variant: off by no more than its bound.

test_cuda_build.py runs these on an emulated GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
from backends import needs_cuda
from emulated_driver import emulated_driver
from test_cuda import code

from edgead import kernels

pytestmark = needs_cuda

VARIANTS = code.variants() if code else ["plain"]
LANES, TILE_GROUPS, GROUP_ROWS, TILE_ROWS = 32, 8, 16, 128


@pytest.fixture
def rng():
    return np.random.default_rng(25)


def rows_of(group, tiles):
    """Rows by slot: (slots,)."""
    slot = np.arange(tiles * GROUP_ROWS)
    tile = group // TILE_GROUPS * tiles + slot // GROUP_ROWS
    of_tile = group % TILE_GROUPS
    column = of_tile % 4 * 2 + slot % 2
    return tile * TILE_ROWS + of_tile // 4 * 64 + slot % GROUP_ROWS // 2 * 8 + column


def scores_in_frame(bank, features, centre):
    """S(q, b) = |b|^2 / 2 - q.b, far more exactly than any kernel has it."""
    exponent = -int(np.frexp(np.abs(bank).max())[1]) + 1 if bank.any() else 0
    b, q = (np.ldexp(rows.astype(np.longdouble), exponent) - centre for rows in (bank, features))
    return (b * b).sum(1) / 2 - (q[:, None] * b).sum(2)


def check_scores(bank, features, variant, k=1):
    """The contract of GroupScores; returns errors of the smallest scores as shares of their bounds (n, groups)."""
    minima, bounds, centre, tiles = code.NearestIndex(bank, variant=variant).group_scores(features, k)
    usable = np.isfinite(bounds).all(1)
    exact = scores_in_frame(bank, np.where(usable[:, None], features, 0), centre)
    shares = np.zeros(bounds.shape)
    digits = tiles * GROUP_ROWS - 1
    for group in range(bounds.shape[1]):
        rows = rows_of(group, tiles)
        there = rows < len(bank)
        least, second = minima[:, group].T
        if not there.any():
            others = minima[:, : (len(bank) // (tiles * TILE_ROWS)) * TILE_GROUPS, 0]
            assert (least[usable, None] > others[usable]).all()
            continue
        slot = np.ascontiguousarray(least).view(np.uint32) & digits
        assert there[slot[usable]].all()
        of_rows = np.full((len(features), len(rows)), np.inf, np.longdouble)
        of_rows[:, there] = exact[:, rows[there]]
        bound = bounds[:, group].astype(np.longdouble)
        off = np.abs(least - np.take_along_axis(of_rows, slot[:, None].astype(np.intp), 1)[:, 0])
        assert (off <= bound)[usable].all()
        assert (of_rows.min(1) >= least - bound)[usable].all()
        np.put_along_axis(of_rows, slot[:, None].astype(np.intp), np.inf, 1)
        assert (of_rows.min(1) >= second - bound)[usable].all()
        shares[usable, group] = (off / np.where(bound > 0, bound, 1))[usable]
    return shares


def check_search(bank, features, variant, k):
    """Distances and rows are those of plain products, bit by bit, and of the CPU."""
    found = code.NearestIndex(bank, variant=variant).search(features, k)
    plain = code.NearestIndex(bank, variant="plain").search(features, k)
    np.testing.assert_array_equal(found[0].view(np.uint32), plain[0].view(np.uint32))
    np.testing.assert_array_equal(found[1], plain[1])
    distance, index = kernels.NearestPatches(bank, backend="numpy").search(features, k)
    np.testing.assert_allclose(found[0], distance, rtol=2e-7)
    # So far away, float64 does not know one row from another.
    near = np.abs(features).max(1).astype(float) < 1e12 * float(np.abs(bank).max())
    np.testing.assert_array_equal(found[1][near], index[near])


def turn(d):
    """The rotation of csrc/cuda/turn.cuh as a matrix (32 chunks, 32 chunks), from its description."""
    chunks = -(-d // LANES)
    along = 1 << (chunks.bit_length() - 1)

    def hadamard(size):
        h = np.ones((1, 1))
        while len(h) < size:
            h = np.block([[h, h], [h, -h]])
        return h / np.sqrt(size)

    def signs(chunk, number):
        mixed = (2 * chunk + number + 1) * 0x9E3779B9 % 2**32
        mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B % 2**32
        mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 % 2**32
        mixed ^= mixed >> 16
        return [-1.0 if mixed >> lane & 1 else 1.0 for lane in range(LANES)]

    matrix = np.eye(LANES * chunks)
    for number, first in enumerate({0: None, chunks - along: None}):
        of_chunks, flipped = np.eye(chunks), np.ones((chunks, LANES))
        here = slice(first, first + along)
        of_chunks[here, here] = hadamard(along)
        flipped[here] = [signs(chunk, number) for chunk in range(first, first + along)]
        matrix = np.kron(of_chunks, np.eye(LANES)) @ (flipped.reshape(-1, 1) * matrix)
    return np.kron(np.eye(chunks), hadamard(LANES)) @ matrix


def usual(rng, count, d):
    return (rng.standard_normal((count, d)) * np.arange(1, d + 1) ** -0.5 + 0.5).astype(np.float32)


def hard_cases(rng, d):
    """Banks and features by name."""

    def normal(count):
        return rng.standard_normal((count, d))

    spike = (np.arange(d) == d // 2) * 1e7
    sides = rng.choice([-1, 1], (150, 1))
    bases, small = normal(3), normal(7)
    turned = turn(d)[:, :d]
    return {
        "usual": (usual(rng, 150, d), usual(rng, 8, d)),
        "one heavy dimension": (normal(150) + spike, normal(8) + spike),
        "one heavy dimension, both signs": (normal(150) + sides * spike, normal(8) + sides[:8] * spike),
        "constant rows": (np.repeat(rng.integers(-3, 4, (150, 1)), d, 1), np.repeat(normal(8)[:, :1], d, 1)),
        "rows all alike": (np.tile(bases[0], (150, 1)), bases[[0, 1, 2, 0]]),
        "zeros": (np.zeros((150, d)), np.concatenate([np.zeros((1, d)), normal(3)])),
        "one row is large": (np.where(np.arange(150)[:, None] == 70, 1e4, 1) * normal(150), normal(8)),
        "one row is the largest there is": (
            np.where(np.arange(150)[:, None] == 70, 3e38, 1) * np.sign(normal(150)),
            np.concatenate([normal(10), 3e38 * np.sign(normal(3))]),
        ),
        "far from zero": (normal(150) + 1e6, normal(8) + 1e6),
        "far queries": (normal(130), normal(8) * np.logspace(0, 38, 8)[:, None]),
        "near queries": (normal(150), normal(8) * np.logspace(0, -44, 8)[:, None]),
        "queries near the centre": (
            np.concatenate([8 * bases[:1], -8 * bases[:1], small, -small]),
            normal(8) * np.logspace(0, -44, 8)[:, None],
        ),
        "huge": (1e37 * normal(150), 1e37 * normal(8)),
        "tiny": (1e-36 * normal(150), 1e-36 * normal(8)),
        "denormal": (1e-41 * normal(150), 1e-41 * normal(8)),
        "wide range": tuple(np.ldexp(normal(n), rng.integers(-40, 1, (n, d))) for n in (150, 8)),
        "signs alone": tuple(np.sign(normal(n)) for n in (150, 8)),
        "one number after the turn": tuple(turned[rng.integers(0, len(turned), n)] for n in (150, 8)),
        "signs after the turn": tuple(np.sign(rng.standard_normal((n, len(turned)))) @ turned for n in (150, 8)),
        "one row": (normal(1), normal(5)),
        "less than a tile, and more": (normal(257), normal(131)),
    }


HARD = list(hard_cases(np.random.default_rng(0), 40))


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_within_their_bounds(rng, variant, case):
    with np.errstate(under="ignore"):
        bank, features = (np.ascontiguousarray(rows, np.float32) for rows in hard_cases(rng, 40)[case])
    check_scores(bank, features, variant)
    if variant != "plain":
        check_search(bank, features, variant, min(3, len(bank)))


@pytest.mark.parametrize(
    ("variant", "d"),
    [
        (variant, d) for variant in VARIANTS for d in (1, 7, 33, 64, 65, 97, 168, 385, 1536)
        if variant != "walking" or d > 32  # one step of dimensions is too little for it
    ],
)  # fmt: skip
def test_dimensions_off_the_tile(rng, variant, d):
    bank, features = usual(rng, 140, d), usual(rng, 9, d)
    assert check_scores(bank, features, variant).max() < 0.9 or d < 33
    if variant != "plain":
        check_search(bank, features, variant, 1)


def test_codes_leave_few_rows(rng):
    """Rows whose variance falls along the dimensions: without the turn, a step suits the first ones alone."""
    bank, features = usual(rng, 500, 384), usual(rng, 40, 384)
    minima, bounds, _, _ = code.NearestIndex(bank, variant="int8").group_scores(features, 1)
    reach = (minima[..., 0] + bounds).min(1, keepdims=True)
    assert (minima[..., 0] <= reach + bounds).sum(1).mean() < 4


@pytest.mark.parametrize("d", [32, 64, 96, 384])
def test_the_bound_of_codes_is_no_larger_than_it_must_be(d):
    """After the turn, all but one of the numbers are just below the middle between two codes, in both rows."""
    turned = turn(d)
    size = np.full(len(turned), 100.49)
    size[0] = 127
    row = (size @ turned).astype(np.float32)
    bank = np.array([row, -row])  # the centre is 0
    assert 0.93 < check_scores(bank, row[None], "int8")[0, 0] <= 1


@pytest.mark.parametrize("d", [96, 384])
def test_codes_that_are_larger_than_their_query(d):
    """A query that is near the centre has the least step there is, and codes of 1 for numbers just above a half."""
    turned = turn(d)
    size = np.full(len(turned), 100.51)
    size[0] = 127
    row = (size @ turned).astype(np.float32)
    least = (size**2).sum() / 2 * 1.1 / 2**22
    query = np.full(len(turned), 0.51 * least) @ turned
    assert 0.93 < check_scores(np.array([row, -row]), query[None].astype(np.float32), "int8")[0, 0] <= 1


def test_what_a_sum_starts_with_is_in_the_bound_of_codes():
    """Codes lose nothing of these rows; |b|^2 / 2 is half a unit of the sums, and is rounded away."""
    turned = turn(32)
    bank = (
        127 * np.repeat(turned[:4], 2, axis=0) * np.array([1, -1] * 4)[:, None]
    )  # of four groups, and the centre is 0
    bank = np.concatenate([bank, 127 * turned[4:8], -127 * turned[4:8], turned[8:9], -turned[8:9]]).astype(np.float32)
    shares = check_scores(bank, (127 * turned[8:9]).astype(np.float32), "int8")
    assert 0.1 < shares.max() < 0.3


def test_what_a_slot_costs_a_large_score_is_in_the_bound_of_codes():
    """A query in the centre, for which nothing but |b|^2 / 2 counts, and rows of which codes lose nothing."""
    bank = 127 * np.repeat(turn(32), 2, axis=0) * np.array([1, -1] * 32)[:, None]
    shares = [
        check_scores((bank * scale).astype(np.float32), np.zeros((1, 32), np.float32), "int8")
        for scale in np.linspace(1, 1.9, 16)
    ]
    assert 0.2 < np.max(shares) <= 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_that_are_not_finite(rng, variant):
    bank, features = rng.standard_normal((300, 40), dtype=np.float32), rng.standard_normal((20, 40), dtype=np.float32)
    features[[3, 7, 11], [0, 39, 20]] = np.nan, np.inf, -np.inf
    check_scores(bank, features, variant)
    index = code.NearestIndex(bank, variant=variant)
    with pytest.raises(ValueError, match="NaN or Inf in row 3"):
        index.search(features, 1)
    features = np.concatenate([bank[:133], features])
    with pytest.raises(ValueError, match="NaN or Inf in row 136"):
        code.NearestIndex(bank, work_bytes=1, variant=variant).search(features, 1)
    bank[200, 5] = np.inf
    with pytest.raises(ValueError, match="NaN or Inf in row 200"):
        code.NearestIndex(bank, variant=variant)


def test_codes_take_no_more_dimensions_than_they_can_turn():
    with pytest.raises(ValueError, match="named int8 and suits"):
        code.NearestIndex(np.ones((3, 1537), np.float32), variant="int8")


@pytest.mark.parametrize(
    ("capability", "geforce", "rows", "codes"),
    [
        (86, 1, 2047, False), (120, 1, 2048, True), (86, 0, 8191, False), (89, 0, 8192, True), (87, 0, 2048, False),
        (90, 0, 8192, False),
    ],
)  # fmt: skip
def test_cards_that_codes_are_for(rng, capability, geforce, rows, codes):
    library = emulated_driver()
    library.emulator_set(b"capability", capability)
    library.emulator_set(b"geforce", geforce)
    index = code.NearestIndex(usual(rng, rows, 34))
    library.emulator_set(b"capability", 86)
    library.emulator_set(b"geforce", 1)
    assert (index.variant == "int8") == codes


def test_scores_are_of_one_part_and_a_known_k(rng):
    index = code.NearestIndex(usual(rng, 20, 34), work_bytes=1)
    assert index.group_scores(usual(rng, 128, 34), 16)
    for n, k in ((129, 1), (0, 1), (5, 0), (5, 17)):
        with pytest.raises(ValueError, match="one part"):
            index.group_scores(usual(rng, n, 34), k)
