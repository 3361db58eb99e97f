"""The pre-scan in 8-bit codes against float64, with projections of every kind: it may leave out no row that can win.

Tolerance: as derived in test_kernels_nearest.py. Where a pre-scan leaves much, float32 products take over and would
hide a bound that guarantees too much: most banks here have a few rows that only a sound bound keeps and many that any
bound leaves out.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead import kernels
from edgead.kernels import nearest as prescan

native = pytest.importorskip("edgead._native", reason="edgead is installed without native code")


def all_columns(d):
    return np.empty((0, d), np.float32)


def index(bank, level, projection):
    return native.NearestIndex(bank, level, projection)


LEVELS = [
    level for level in native.available_isas() if index(np.ones((1, 1), np.float32), level, all_columns(1)).prescans
]


def orthonormal(rng, p, d):
    return np.ascontiguousarray(np.linalg.qr(rng.standard_normal((d, p)))[0].T, dtype=np.float32)


def check(bank, features, k, *projections):
    bank, features = np.ascontiguousarray(bank, np.float32), np.ascontiguousarray(features, np.float32)
    expected, _ = reference.nearest(features, bank, k)
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
        step = np.where(np.isfinite(rounded), np.spacing(rounded), 0)
    for projection in projections or (all_columns(bank.shape[1]),):
        for level in LEVELS:
            distance, rows = index(bank, level, projection).search(features, k)
            same = rounded == distance
            assert np.all(np.abs(np.where(same, 0, distance) - np.where(same, 0, rounded)) <= step), (
                level,
                len(projection),
            )
            assert all(len(set(row)) == k for row in rows.tolist())
            at_rows = np.sqrt(((bank[rows].astype(np.float64) - features[:, None]) ** 2).sum(axis=2))
            np.testing.assert_allclose(at_rows, expected, rtol=(bank.shape[1] + 4) * 2.0**-52, atol=0)


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def part(rows, projection, where):
    """Rows cut to what a projection sees, or does not see."""
    seen = rows @ projection.T.astype(np.float64) @ projection
    return {"seen": seen, "unseen": rows - seen, "both": rows}[where]


def shells(rng, queries, radius, directions):
    """Bank of rows equally far from their query, but for the last digits: any of them may be the nearest."""
    rows = queries[:, None] + radius * unit(directions)
    return rng.permutation(rows.reshape(-1, queries.shape[1]))


def test_levels(rng):
    bank = rng.standard_normal((300, 8), dtype=np.float32)
    assert [level for level in native.available_isas() if level != "baseline"] == LEVELS
    for level in LEVELS:
        assert not index(bank, level, None).prescans
        assert not index(np.zeros((2, prescan.MAX_COLUMNS + 1), np.float32), level, orthonormal(rng, 1, 4097)).prescans
        assert index(np.zeros((2, prescan.MAX_COLUMNS), np.float32), level, all_columns(prescan.MAX_COLUMNS)).prescans


# On and off the widths of a vector, a step of the codes (4), a panel (16, 32) and a tile (4 to 16 queries).
@pytest.mark.parametrize(("d", "p"), [(1, 1), (3, 2), (8, 8), (17, 4), (64, 13), (151, 33)])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (7, 5, 3), (33, 13, 16), (97, 25, 2), (1000, 30, 9)])
def test_shapes(rng, m, n, k, d, p):
    check(rng.standard_normal((m, d)), rng.standard_normal((n, d)), k, all_columns(d), orthonormal(rng, p, d))


def test_most_columns(rng):
    bank = np.sign(rng.standard_normal((150, prescan.MAX_COLUMNS)))  # codes as large as they get: sums as well
    check(bank, np.vstack([bank[:9], -bank[:4]]), 2, all_columns(prescan.MAX_COLUMNS), orthonormal(rng, 5, 4096))


@pytest.mark.parametrize("apart", [3, 30, 1000])  # of the queries, in radii: how coarse a code is
@pytest.mark.parametrize("where", ["seen", "unseen", "both"])  # the directions in which the rows of a shell differ
@pytest.mark.parametrize(("d", "p"), [(2, 1), (6, 3), (40, 24)])
def test_shells(rng, d, p, where, apart):
    projection = orthonormal(rng, p, d)
    for trial in range(3):
        for centres in ("seen", "both"):
            queries = apart * unit(part(rng.standard_normal((25, d)), projection, centres))
            bank = shells(rng, queries, 1, part(rng.standard_normal((25, 30, d)), projection, where))
            check(bank, queries, 1 + 2 * trial, all_columns(d), projection)


@pytest.mark.parametrize("far", [0, 1e-3, 1, 30, 1e3, 1e6])
def test_near_queries_beside_a_far_one(rng, far):
    # The far query sets the step of the codes for its tile.
    projection = orthonormal(rng, 8, 20)
    for where in ("seen", "unseen", "both"):
        queries = 20 * unit(part(rng.standard_normal((25, 20)), projection, "seen"))
        bank = shells(rng, queries, 1, rng.standard_normal((25, 30, 20)))
        queries[::7] = far * part(queries[::7], projection, where)
        check(bank, queries, 2, all_columns(20), projection)


@pytest.mark.parametrize("stretch", [0.996, 1.004])  # still taken for orthonormal
def test_projection_that_stretches(rng, stretch):
    projection = np.eye(1, 3, dtype=np.float32) * np.float32(stretch)
    unseen = unit(rng.standard_normal((1000, 3)) * [0, 1, 1])
    n = np.sqrt(abs(stretch**2 - 1))  # hidden by the stretch, or made up
    for query, nearest, decoys in (
        ([0.02, 0, 0], [1.02, 0, 0], unseen[:100]),  # the nearest looks farther than the decoys, by the whole stretch
        ([1, n, 0], [1, 3 * n, 0], [1 + 2.02 * n, n, 0] + 0.001 * rng.random((100, 3))),
    ):
        rows = np.vstack([[nearest], decoys, 1.5 * unseen])
        check(rng.permutation(np.vstack([rows, -rows])), [query], 1, projection)


@pytest.mark.parametrize("n", [1, 40])
def test_length_of_what_is_not_seen(rng, n):
    # One column is seen. Rows differ in a second by their length, in a third by their direction.
    projection = np.eye(1, 4, dtype=np.float32)
    bank = rng.standard_normal((2000, 4)) * [20, 1, 1, 0.1]
    for offset in (0, 5, 500):
        queries = rng.standard_normal((n, 4)) * [20, 1, 1, 0.1] + [0, offset, 0, 0]
        check(bank, queries, 4, projection, np.eye(2, 4, dtype=np.float32), orthonormal(rng, 2, 4))


SPIKE = np.eye(11)[1] * 1e7
LARGEST = np.finfo(np.float32).max
ADVERSARIAL = {
    "huge": lambda b, q: (b * 1e37, q * 1e37),
    "largest floats": lambda b, q: (np.sign(b) * LARGEST, np.sign(q) * LARGEST),
    "tiny": lambda b, q: (b * 1e-30, q * 1e-30),
    "denormal": lambda b, q: (b * 1e-42, q * 1e-42),
    "denormal bank": lambda b, q: (b * 1e-42, q),
    "offset": lambda b, q: (b + 1e5, q + 1e5),
    "one heavy dimension": lambda b, q: (b + SPIKE, q + SPIKE),
    "tiny beside a large constant": lambda b, q: (b * 2.0**-50 * (SPIKE == 0) + SPIKE, q * 2.0**-60 + SPIKE),
    "one huge row": lambda b, q: (np.vstack([b, b[:1] * 1e20]), q),
    "constant": lambda b, q: (np.full_like(b, 0.1), q),
    "zero": lambda b, q: (np.zeros_like(b), q * 1e9),
    "duplicates": lambda b, q: (np.tile(b[:40], (18, 1)), q),
    "rows": lambda b, q: (b, b[7 : 7 + len(q)]),
    "nearly rows": lambda b, q: (b, b[: len(q)] * (1 + 1e-7)),
    "out of range": lambda b, q: (b, q * 10.0 ** np.arange(len(q))[:, None]),
    "whole numbers": lambda b, q: (np.round(b), np.round(q)),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial(rng, name):
    projection = orthonormal(rng, 6, 11)
    for where in ("seen", "unseen", "both"):  # where the energy of bank and queries is
        bank = part(rng.standard_normal((700, 11)), projection, where)
        bank, queries = ADVERSARIAL[name](bank, part(rng.standard_normal((31, 11)), projection, where))
        check(bank, queries, 5, all_columns(11), projection, np.eye(4, 11, dtype=np.float32))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_finite_input(data):
    draw = data.draw
    m, n, d = draw(st.integers(1, 400)), draw(st.integers(1, 30)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))

    def rows(count):
        exponent = rng.integers(-1, 2, (count, d)) * draw(st.integers(0, 20))  # wide ranges within one row
        offset = draw(st.sampled_from([0.0, 0.0, 1.0, 1e3, 1e8]))
        values = np.ldexp(rng.standard_normal((count, d)) + offset, exponent + draw(st.sampled_from([-140, -3, 0, 80])))
        return np.clip(values, -1e38, 1e38).astype(np.float32)

    bank, features = rows(m), rows(n)
    if draw(st.booleans()):
        features = bank[rng.integers(0, m, n)] * np.float32(draw(st.sampled_from([1.0, 1.0000001, 1.1])))
    projection = orthonormal(rng, draw(st.integers(1, d)), d)
    check(bank, features, draw(st.integers(1, min(16, m))), all_columns(d), projection)


def test_several_segments(rng):
    # More rows than are scored at once; each query has its nearest row in another part of the bank.
    bank = rng.standard_normal((2 * 65536 + 131, 5), dtype=np.float32) + np.float32(50)
    rows = np.linspace(0, len(bank) - 1, 16).astype(int)
    queries = rng.standard_normal((16, 5), dtype=np.float32)
    bank[rows] = queries + np.float32(0.01) * rng.standard_normal((16, 5), dtype=np.float32)
    bank[rows[::2] // 2] = queries[::2]
    check(bank, queries, 3, all_columns(5), orthonormal(rng, 3, 5))


@pytest.mark.parametrize("far", [[True], [True, False], [True] * 48 + [False] * 48, [True] + [False] * 23])
def test_queries_that_leave_too_much(rng, far):
    bank = rng.standard_normal((600, 12))
    queries = bank[:300] + 0.01 * rng.standard_normal((300, 12))
    queries += 1e4 * np.resize(far, 300)[:, None]
    check(bank, queries, 2, all_columns(12), orthonormal(rng, 5, 12))


@pytest.mark.parametrize("count", [2, 5])
def test_thread_counts_agree(rng, count):
    # Few queries: the bank is divided among the threads, its last range has fewer rows than k.
    projections = all_columns(9), orthonormal(rng, 5, 9)
    bank = rng.standard_normal((96 * 8 + 3, 9), dtype=np.float32)
    before = kernels.threads()
    try:
        for n in (1, 13, 200):
            features = rng.standard_normal((n, 9), dtype=np.float32)
            kernels.set_threads(count)
            check(bank, features, 9, *projections)
    finally:
        kernels.set_threads(before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(rng, value):
    good = rng.standard_normal((300, 5), dtype=np.float32)
    bad = good.copy()
    bad[[33, 250], 4] = value
    for level in LEVELS:
        for projection in (all_columns(5), orthonormal(rng, 2, 5)):
            with pytest.raises(ValueError, match="memory_bank has NaN or Inf in row 33"):
                index(bad, level, projection)
            with pytest.raises(ValueError, match="features has NaN or Inf in row 33"):
                index(good, level, projection).search(bad, 1)


def test_projections_that_are_refused(rng):
    bank = rng.standard_normal((30, 6), dtype=np.float32)
    good = orthonormal(rng, 3, 6)
    wrong = [
        good * np.float32(1.01),
        good[[0, 0]],
        rng.standard_normal((7, 6), dtype=np.float32),
        good * np.float32(np.nan),
    ]
    for level in LEVELS:
        for projection in wrong:
            with pytest.raises(ValueError, match="the rows of a projection must be orthonormal"):
                index(bank, level, projection)
        with pytest.raises(ValueError, match=r"a projection must be \(p, d\)"):
            index(bank, level, np.ascontiguousarray(good[:, :5]))
        with pytest.raises(TypeError):
            index(bank, level, good.astype(np.float64))


def spectrum(rng, m, d, decay):
    return (rng.standard_normal((m, d)) * decay ** np.arange(d) @ orthonormal(rng, d, d)).astype(np.float32)


def test_choice_of_a_projection(rng):
    assert prescan.choose_projection(spectrum(rng, prescan.MIN_ROWS - 1, 64, 0.8)) is None
    assert prescan.choose_projection(np.ones((prescan.MIN_ROWS, prescan.MAX_COLUMNS + 1), np.float32)) is None
    for bank in (
        spectrum(rng, prescan.MIN_ROWS_TO_PROJECT - 1, 64, 0.8),
        spectrum(rng, prescan.MIN_ROWS_TO_PROJECT, 2 * prescan.STEP - 1, 0.8),
        rng.standard_normal((4000, 96), dtype=np.float32),
        np.full((4000, 64), 0.1, np.float32),
        np.zeros((4000, 64), np.float32),
    ):
        assert prescan.choose_projection(bank).shape == (0, bank.shape[1])
    for scale in (1e-30, 1, 1e30):
        bank = spectrum(rng, 3000, 128, 0.9) * np.float32(scale)
        projection = prescan.choose_projection(bank)
        assert projection.dtype == np.float32 and 0 < len(projection) <= 64 and len(projection) % prescan.STEP == 0
        np.testing.assert_allclose(projection.astype(np.float64) @ projection.T, np.eye(len(projection)), atol=1e-5)
        np.testing.assert_array_equal(projection, prescan.choose_projection(bank))
        check(
            bank, bank[:50] + np.float32(scale / 10) * rng.standard_normal((50, 128), dtype=np.float32), 3, projection
        )
