"""NearestPatches on every backend and instruction set level against float64.

Tolerance: the contract is the float64 distance rounded to float32. Ours and the reference's float64 distances differ by
at most (d + 4) 2^-53 relative, far below half a float32 step, so the two roundings are equal or neighbours: one step
(spacing). For the same reason an index may differ from the reference's only where the two rows are equally far to
twice that.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from backends import EACH, WORKING, at_odd_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead import kernels


def check(bank, features, k, backend):
    distance, index = kernels.NearestPatches(bank, backend=backend).search(features, k)
    assert distance.shape == index.shape == (len(features), k)
    assert (distance.dtype, index.dtype) == (np.float32, np.int32)
    expected, rows = reference.nearest(features, bank, k)
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(distance[~finite], rounded[~finite])
    distance, rounded = distance[finite], rounded[finite]
    assert np.all(np.abs(distance - rounded) <= np.spacing(rounded))
    assert all(len(set(row)) == k for row in index.tolist())
    at_index = np.sqrt(((bank[index].astype(np.float64) - features[:, None]) ** 2).sum(axis=2))
    np.testing.assert_allclose(at_index, expected, rtol=(bank.shape[1] + 4) * 2.0**-52, atol=0)
    return index, rows


@pytest.fixture(params=EACH)
def backend(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20)


# On and off the widths of a vector (4, 8, 16), a panel (8 to 32 rows) and a tile (4 to 12 queries).
@pytest.mark.parametrize("d", [1, 3, 8, 17, 64, 151])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (7, 5, 3), (31, 12, 16), (32, 13, 1), (257, 30, 9), (1000, 3, 2)])
def test_shapes(backend, rng, m, n, k, d):
    bank = rng.standard_normal((m, d), dtype=np.float32)
    check(bank, rng.standard_normal((n, d), dtype=np.float32), min(k, m), backend)


def test_working_size(backend, rng):
    bank = rng.standard_normal((3000, 384), dtype=np.float32)
    index, rows = check(bank, rng.standard_normal((100, 384), dtype=np.float32), 1, backend)
    np.testing.assert_array_equal(index, rows)


def adversarial(name, rng):
    normal = rng.standard_normal((300, 24), dtype=np.float32)
    queries = rng.standard_normal((20, 24), dtype=np.float32)
    spike = np.eye(24, dtype=np.float32)[5] * np.float32(1e7)
    return {
        "far from zero": (normal + np.float32(1e6), queries + np.float32(1e6)),
        "far apart": (normal, queries + np.float32(1e6)),
        "out of range": (normal, queries * np.float32(1e30)),
        "squares overflow": (normal * np.float32(1e19), queries * np.float32(1e19)),
        "largest floats": (np.sign(normal) * np.float32(3.4e38), np.sign(queries) * np.float32(3.4e38)),
        "tiny": (normal * np.float32(1e-30), queries * np.float32(1e-30)),
        "denormal": (normal * np.float32(1e-41), queries * np.float32(1e-41)),
        "denormal bank, large queries": (normal * np.float32(1e-41), queries * np.float32(1e38)),
        "one huge row": (np.vstack([normal, normal[:1] * np.float32(1e20)]), queries),
        "one heavy dimension": (normal + spike, queries + spike),
        "one heavy dimension, both signs": (normal + spike * np.sign(normal[:, :1]), queries + spike),
        "constant": (np.full((300, 24), 0.1, np.float32), np.full((20, 24), 0.1, np.float32)),
        "zero": (np.zeros((300, 24), np.float32), np.zeros((20, 24), np.float32)),
        "queries from the bank": (normal, normal[:20].copy()),
        "nearly equal rows": (normal[:1] + normal * np.float32(1e-6), queries),
        "two tight clusters": (
            np.repeat(normal[:2], 150, 0) + normal * np.float32(1e-5),
            normal[:20] * np.float32(1e-5),
        ),
    }[name]


NAMES = [
    "far from zero", "far apart", "out of range", "squares overflow", "largest floats", "tiny", "denormal",
    "denormal bank, large queries", "one huge row", "one heavy dimension", "one heavy dimension, both signs",
    "constant", "zero", "queries from the bank", "nearly equal rows", "two tight clusters",
]  # fmt: skip


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("name", NAMES)
def test_adversarial(backend, rng, name, k):
    check(*adversarial(name, rng), k, backend)


@pytest.mark.parametrize("far", [0.3, 1, 30, 1000])
@pytest.mark.parametrize("d", [2, 9, 100, 384])
def test_rows_on_a_shell(backend, rng, d, far):
    # All rows are equally far from the query but for the last digits of float32, which products do not see: only a
    # sound error bound keeps the nearest among the candidates. 100 rows: few enough to be listed, not all measured.
    for trial in range(8):
        rows = rng.standard_normal((100, d))
        query = rows.mean(axis=0) + far * np.sqrt(d) * rng.choice([-1.0, 1.0], d)
        direction = rows - query
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        shell = query + direction * np.linalg.norm(rows[0] - query)
        check(shell.astype(np.float32), query[None].astype(np.float32), 1 + trial % 3, backend)


def test_lowest_row_wins_a_tie(backend, rng):
    bank = rng.integers(-2, 3, (40, 3)).astype(np.float32)  # whole numbers: every sum is exact, many rows are equal
    bank = np.tile(bank, (20, 1))
    index, rows = check(bank, rng.integers(-2, 3, (50, 3)).astype(np.float32), 5, backend)
    np.testing.assert_array_equal(index, rows)


def test_distance_to_itself_is_zero(backend, rng):
    bank = rng.standard_normal((500, 100), dtype=np.float32) + np.float32(1000)
    distance, index = kernels.NearestPatches(bank, backend=backend).search(bank)
    assert not distance.any()
    np.testing.assert_array_equal(index[:, 0], np.arange(500))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_finite_input(data):
    draw = data.draw
    m, n, d = draw(st.integers(1, 70)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))

    def rows(count):
        exponent = rng.integers(-1, 2, (count, d)) * draw(st.integers(0, 30))  # wide ranges within one row
        offset = draw(st.sampled_from([0.0, 1.0, 1e3, 1e8]))
        values = np.ldexp(rng.standard_normal((count, d)) + offset, exponent + draw(st.integers(-150, 90)))
        values = np.clip(values, -1e38, 1e38).astype(np.float32)
        return values[rng.integers(0, count, count)] if draw(st.booleans()) else values  # duplicates

    bank, features = rows(m), rows(n)
    if draw(st.booleans()):
        features = bank[rng.integers(0, m, n)] * np.float32(draw(st.sampled_from([1.0, 1.0000001, 2.0])))
    k = draw(st.integers(1, min(16, m)))
    for backend in WORKING:
        check(bank, features, k, backend)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_thread_counts_agree(backend, rng, count):
    bank = rng.standard_normal((700, 40), dtype=np.float32)
    index = kernels.NearestPatches(bank, backend=backend)
    before = kernels.threads()
    try:
        for n in (1, 13, 200):
            features = rng.standard_normal((n, 40), dtype=np.float32)
            kernels.set_threads(1)
            alone = index.search(features, 4)
            kernels.set_threads(count)
            together = index.search(features, 4)
            np.testing.assert_array_equal(alone[0], together[0])
            np.testing.assert_array_equal(alone[1], together[1])
    finally:
        kernels.set_threads(before)


def test_concurrent_calls(backend, rng):
    index = kernels.NearestPatches(rng.standard_normal((500, 33), dtype=np.float32), backend=backend)
    batches = [rng.standard_normal((50, 33), dtype=np.float32) for _ in range(24)]
    alone = [index.search(batch, 2) for batch in batches]
    with ThreadPoolExecutor(6) as executor:
        for (distance, rows), (d, i) in zip(executor.map(lambda b: index.search(b, 2), batches), alone, strict=True):
            np.testing.assert_array_equal(distance, d)
            np.testing.assert_array_equal(rows, i)


def test_no_features(backend):
    distance, index = kernels.NearestPatches(np.ones((3, 4), np.float32), backend=backend).search(
        np.empty((0, 4), np.float32), 2
    )
    assert distance.shape == index.shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(backend, value):
    good = np.ones((60, 5), np.float32)
    bad = good.copy()
    bad[33, 4] = value
    with pytest.raises(ValueError, match="memory_bank has NaN or Inf in row 33"):
        kernels.NearestPatches(bad, backend=backend)
    with pytest.raises(ValueError, match="features has NaN or Inf in row 33"):
        kernels.NearestPatches(good, backend=backend).search(bad)


def test_arguments(backend):
    bank = np.ones((3, 4), np.float32)
    index = kernels.NearestPatches(bank, backend=backend)
    for k in (0, -1, 4, 17):
        with pytest.raises(ValueError, match=f"at most the bank's 3 rows, found {k}"):
            index.search(bank, k)
    with pytest.raises(TypeError):
        index.search(bank, 1.5)
    with pytest.raises(TypeError, match="features must be float32, found float64"):
        index.search(bank.astype(np.float64))
    with pytest.raises(ValueError, match=r"d = 4 columns, found shape \(3, 3\)"):
        index.search(np.ones((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"shape \(n, d\), found \(4,\)"):
        index.search(bank[0])
    with pytest.raises(ValueError, match="C order"):
        index.search(np.asfortranarray(bank))
    with pytest.raises(ValueError, match="features must begin at a multiple of 4 bytes"):
        index.search(at_odd_bytes(bank))
    with pytest.raises(ValueError, match="memory_bank must begin at a multiple of 4 bytes"):
        kernels.NearestPatches(at_odd_bytes(bank), backend=backend)
    with pytest.raises(TypeError, match="found list"):
        index.search([[1.0] * 4])
    for empty in (np.empty((0, 4), np.float32), np.empty((4, 0), np.float32)):
        with pytest.raises(ValueError, match="at least one row"):
            kernels.NearestPatches(empty, backend=backend)
