"""Distances of the CUDA search without float64: those of float64 to the last digit, which it takes where it must.

test_cuda_build.py runs these on an emulated GPU, which counts the sums of float64.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from backends import needs_cuda
from emulated_driver import emulated_driver
from test_cuda import code, exact, needs_code

LANES = 32


@pytest.fixture
def rng():
    return np.random.default_rng(24)


@pytest.fixture
def float64_sums():
    """How many rows were measured in float64 since it was last asked."""
    library, before = emulated_driver(), [0]
    before[0] = library.emulator_float64_sums()

    def since():
        last, before[0] = before[0], library.emulator_float64_sums()
        return before[0] - last

    return since


def square(query, row):
    """What the contract asks for: the float64 sum, with a fused multiply-add a term, of 32 lanes that meet in pairs."""
    lanes = np.zeros(LANES)
    for i, difference in enumerate(query.astype(np.float64) - row):
        lanes[i % LANES] = float(Fraction(difference) ** 2 + Fraction(lanes[i % LANES]))
    for step in (16, 8, 4, 2, 1):
        lanes = lanes + lanes[np.arange(LANES) ^ step]
    return lanes[0]


def check(bank, queries, k):
    """Distances and rows of a search are those of float64, bit by bit."""
    distance, index = code.NearestIndex(bank).search(queries, k)
    squares = np.array([[square(query, row) for row in bank] for query in queries])
    rows = np.argsort(squares, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index, rows)
    with np.errstate(over="ignore"):
        expected = np.sqrt(np.take_along_axis(squares, rows, 1)).astype(np.float32)
    np.testing.assert_array_equal(distance.view(np.uint32), expected.view(np.uint32))


def total(query, row):
    zeros = np.zeros_like(row)
    return sum((q - b) ** 2 for q, b in zip(exact(query, zeros, 0), exact(row, zeros, 0), strict=True))


def bring_to(target, query, row):
    """Change the last two dimensions of `row`, where the query is 0, so that their square is `target` to 2^-70."""
    assert not query[-2:].any()
    row = row.copy()
    row[-2:] = 0
    for i in (-2, -1):
        rest = target - total(query, row)
        assert rest >= 0
        row[i] = np.float32(float(rest) ** 0.5)
        if total(query, row) > target and i == -2:
            row[i] = np.nextafter(row[i], np.float32(0))
    assert abs(total(query, row) / target - 1) < 2.0**-65
    return row


def midpoint(square):
    """Half-way between two floats, the first above the root of `square` that leaves room: its square."""
    root = np.float32(float(square) ** 0.5)
    for _ in range(2):
        root = np.nextafter(root, np.float32(np.inf))
    return ((Fraction(float(root)) + Fraction(float(np.nextafter(root, np.float32(np.inf))))) / 2) ** 2


def at_edges(rng, d, count):
    """Queries whose nearest row is as far as the middle between two floats, as nearly as float32 can say."""
    queries, bank = rng.standard_normal((2, count, d), dtype=np.float32) * np.float32(0.1)
    queries += 8 * rng.standard_normal((count, 1), dtype=np.float32)  # each beside a row of its own
    bank += queries
    queries[:, -2:] = 0
    for query, row in zip(queries, bank, strict=True):
        row[-2:] = 0
        row[:] = bring_to(midpoint(total(query, row)), query, row)
    return bank, queries


def in_ties(rng, d, count):
    """A query and rows that are equally far from it, as nearly as float32 can say."""
    query, bank = np.zeros(d, np.float32), rng.standard_normal((count, d), dtype=np.float32)
    query[:-2] = rng.standard_normal(d - 2, dtype=np.float32)
    bank[:, -2:] = 0
    direction = (bank - query)[:, :-2]
    bank[:, :-2] = query[:-2] + direction / np.sqrt((direction**2).sum(1, keepdims=True))
    target = max(total(query, row) for row in bank) * (1 + Fraction(1, 2**20))
    return np.array([bring_to(target, query, row) for row in bank]), query[None]


@needs_cuda
@pytest.mark.parametrize("d", [5, 40, 130])
def test_distances_between_two_floats(rng, d, float64_sums):
    bank, queries = at_edges(rng, d, 16)
    check(bank, queries, 1)
    assert float64_sums() >= 16


@needs_cuda
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("d", [5, 40, 130])
def test_rows_in_a_tie(rng, d, k, float64_sums):
    for _ in range(3):
        bank, query = in_ties(rng, d, 8)
        check(bank, query, k)
        assert float64_sums() >= 8


@needs_cuda
@pytest.mark.parametrize("k", [1, 3])
def test_rows_in_a_tie_that_different_warps_find(rng, k, float64_sums):
    for _ in range(4):
        tied, query = in_ties(rng, 40, 4)
        bank = np.full((2000, 40), 50, np.float32)
        bank[[1900, 700, 20, 1300]] = tied
        check(bank, query, k)
        assert float64_sums() == 4


@needs_cuda
@pytest.mark.parametrize("k", [1, 2])
def test_rows_that_differ_by_a_digit(rng, k):
    bank, queries = rng.standard_normal((2, 12, 40), dtype=np.float32)
    beside = bank.copy()
    beside[np.arange(12), rng.integers(0, 40, 12)] *= np.float32(1 + 2.0**-23)
    check(np.concatenate([bank, beside, bank[:3]]), np.concatenate([queries, bank[:6], beside[:6]]), k)


@needs_cuda
@pytest.mark.parametrize("factor", [1e-45, 1e-40, 1e-37, 1e-30, 1e-20, 1e-12, 1e12, 1e18, 1e19, 1e30, 3e37])
def test_magnitudes(rng, factor):
    bank, queries = (rng.standard_normal((count, 40)) for count in (30, 8))
    for wide in (0, 20):  # numbers of one size, and of many
        scale = np.ldexp(factor, rng.integers(-wide, 1, (38, 40)))
        check((bank * scale[:30]).astype(np.float32), (queries * scale[30:]).astype(np.float32), 2)


@needs_cuda
def test_zeros(rng):
    bank = rng.standard_normal((20, 40), dtype=np.float32)
    bank[5:] = 0
    check(bank, bank[:8].copy(), 3)


@needs_cuda
def test_banks_of_more_scores_than_registers(rng, float64_sums):
    """A query that ties in the last chunk of groups, and others that have one nearest row somewhere."""
    bank = rng.standard_normal((13_000, 5), dtype=np.float32)
    queries = bank[[3, 12_700, 12_900]] + np.float32(1e-3) * rng.standard_normal((3, 5), dtype=np.float32)
    queries[2] = 20
    bank[[12_400, 12_999]] = bank[12_990] = 20.5
    distance, index = code.NearestIndex(bank).search(queries, 1)
    np.testing.assert_array_equal(index[:, 0], [3, 12_700, 12_400])
    expected = [np.float32(np.sqrt(square(query, bank[row]))) for query, (row,) in zip(queries, index, strict=True)]
    np.testing.assert_array_equal(distance[:, 0], expected)
    assert float64_sums() == 3


@needs_cuda
@pytest.mark.parametrize(("d", "k"), [(64, 1), (384, 1), (168, 9)])
def test_usual_features_need_no_float64(rng, d, k, float64_sums):
    falling = np.arange(1, d + 1) ** -0.5
    bank, queries = ((rng.standard_normal((count, d)) * falling + 0.5).astype(np.float32) for count in (500, 150))
    distance, index = code.NearestIndex(bank).search(queries, k)
    assert float64_sums() == 0
    for i in range(0, 150, 50):
        expected = [np.float32(np.sqrt(square(queries[i], bank[row]))) for row in index[i]]
        np.testing.assert_array_equal(distance[i], expected)


@needs_code
@pytest.mark.parametrize("d", [1, 2, 33, 384, 2000])
def test_no_square_is_farther_off_than_its_bound(rng, d):
    def normal():
        return rng.standard_normal(d).astype(np.float32)

    pairs = {
        "plain": (normal(), normal()),
        "beside each other": (row := normal(), (row * (1 + 1e-6 * normal())).astype(np.float32)),
        "far from zero": (normal() + np.float32(1e6), normal() + np.float32(1e6)),
        "small and large": (normal() * np.float32(1e-9), normal() * np.float32(1e9)),
        "wide range": tuple(np.ldexp(normal(), rng.integers(-40, 1, d)).astype(np.float32) for _ in range(2)),
        "the largest first": (
            (np.arange(d) < LANES) * np.float32(4095) + 1 + normal(),
            np.full(d, 2.0**-13, np.float32),
        ),
        "near the least": (normal() * np.float32(1e-11), normal() * np.float32(1e-11)),
        "near the largest": (normal() * np.float32(1e17), normal() * np.float32(1e17)),
    }
    for name, (query, row) in pairs.items():
        high, low, relative = code.squared_distance(query, row)
        of_rows = total(query, row)
        assert abs(Fraction(high) + Fraction(low) - of_rows) <= Fraction(relative) * of_rows, name
        assert abs(Fraction(square(query, row)) - of_rows) <= Fraction(relative) / 16 * of_rows, name
        assert np.float32(high + low) == np.float32(high), name


@needs_code
def test_the_bound_grows_with_the_dimensions():
    """About 2^-39 for a network's features, so that a result in 2^16 is near an edge; of no use for 2^20 dimensions."""
    relative = {d: code.squared_distance(*np.ones((2, d), np.float32))[2] for d in (1, 384, 2048, 1 << 20)}
    assert relative[1] < 2.0**-41 and relative[384] < 2.0**-39 and relative[2048] < 2.0**-36
    assert 2.0**-20 < relative[1 << 20] < 2.0**-18


@needs_code
@pytest.mark.parametrize("d", [1, 384, 1 << 20])
def test_roots_are_rounded_as_float64_would(rng, d):
    relative = Fraction(code.squared_distance(*np.ones((2, d), np.float32))[2])
    sure = 0
    roots = np.ldexp(1 + rng.random(400), rng.integers(-30, 60, 400)).astype(np.float32)
    roots[:40] = np.ldexp(np.float32(1), rng.integers(-30, 60, 40))  # the float below is half as far
    for root, side in zip(roots, rng.choice([-1, 1], 400), strict=True):
        other = np.nextafter(root, np.float32(side * np.inf))
        edge = ((Fraction(float(root)) + Fraction(float(other))) / 2) ** 2
        squared = edge * (1 + relative * Fraction(rng.uniform(-3, 3)))
        high = np.float32(float(squared))
        low = np.float32(float(squared - Fraction(float(high))))
        found, unsure = code.rounded_root(high, low, d)
        sum_ = Fraction(float(high)) + Fraction(float(low))
        if abs(sum_ / edge - 1) < relative - Fraction(16, 2**48):  # what `root` itself rounds is in it
            assert unsure
        if not unsure:
            sure += 1
            assert found in (root, other)
            assert (found > min(root, other)) == (sum_ > edge)
    assert sure > 100 or d > 384


@needs_code
def test_what_float32_cannot_square_is_unsure():
    for high in (0.0, 2.0**-80, 2.0**127, np.inf, np.nan):
        assert code.rounded_root(high, 0, 8)[1]
    for value in (1e-30, 1e25, 3e38):
        query = np.full(8, value, np.float32)
        assert code.rounded_root(*code.squared_distance(query, -query)[:2], 8)[1]
