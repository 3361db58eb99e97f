"""The CUDA backend: arrays on the GPU, the proof that its candidates rest on, and what it says where it cannot work.

test_cuda_build.py runs these on an emulated GPU as well.
"""

from __future__ import annotations

import importlib
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from backends import CUDA_REQUIRED, needs_cuda

from edgead import kernels
from edgead.cli import doctor
from edgead.errors import SettingsError
from edgead.kernels import backend, cuda

try:
    code = importlib.import_module("edgead._cuda")
except ModuleNotFoundError:
    code = None
needs_code = pytest.mark.skipif(
    code is None and not CUDA_REQUIRED, reason="CUDA ERROR BOUND NOT TESTED HERE: edgead._cuda is not built"
)


@pytest.fixture
def rng():
    return np.random.default_rng(22)


def on_device(array):
    memory = code.DeviceMemory(array.nbytes)
    memory.copy_from_host(array)
    return memory


def from_device(memory, shape, dtype):
    array = np.empty(shape, dtype)
    memory.copy_to_host(array)
    return array


def search_on_device(index, features, k):
    rows = len(features)
    source, bad_row = on_device(features), code.DeviceMemory(4)
    distance, number = code.DeviceMemory(4 * rows * k), code.DeviceMemory(4 * rows * k)
    index.search(source.pointer, rows, k, cuda.Neighbours(distance.pointer, number.pointer, bad_row.pointer))
    code.synchronize(0)
    return (
        from_device(distance, (rows, k), np.float32),
        from_device(number, (rows, k), np.int32),
        int(from_device(bad_row, 1, np.int32)[0]),
    )


@needs_cuda
@pytest.mark.parametrize(
    ("m", "n", "d", "k"),
    [(1000, 200, 40, 3), (40, 5, 7, 16), (129, 1, 33, 1), (300, 130, 151, 2)],  # the last: more tiles than stages
)
def test_search_on_device(rng, m, n, d, k):
    bank, features = rng.standard_normal((m, d), dtype=np.float32), rng.standard_normal((n, d), dtype=np.float32)
    distance, index, bad_row = search_on_device(cuda.NearestPatches(bank), features, k)
    expected = kernels.NearestPatches(bank, backend="numpy").search(features, k)
    np.testing.assert_allclose(distance, expected[0], rtol=2e-7)
    np.testing.assert_array_equal(index, expected[1])
    assert bad_row == -1


@needs_cuda
@pytest.mark.parametrize("noise", [1e-5, 2e-3])  # halves are equal; they differ, and err by more than rows are apart
@pytest.mark.parametrize("alike", [(2, 3), (2, 130, 386), range(2048)], ids=["of a group", "of three tiles", "all"])
def test_rows_that_halves_cannot_tell_apart_are_measured(rng, alike, noise):
    one = rng.standard_normal(40, dtype=np.float32)
    bank = np.float32(0.01) * rng.standard_normal((2048, 40), dtype=np.float32)
    bank[list(alike)] = one + np.float32(noise) * rng.standard_normal((len(alike), 40), dtype=np.float32)
    features = one + np.float32(noise) * rng.standard_normal((9, 40), dtype=np.float32)
    distance, index, _ = search_on_device(cuda.NearestPatches(bank), features, 3)
    expected = kernels.NearestPatches(bank, backend="numpy").search(features, 3)
    np.testing.assert_allclose(distance, expected[0], rtol=2e-7)
    np.testing.assert_array_equal(index, expected[1])


@needs_cuda
def test_every_row_of_a_bank_is_found(rng):
    bank = rng.standard_normal((128 * 6 + 1, 34), dtype=np.float32)
    shuffled = rng.permutation(len(bank))
    features = bank[shuffled] + np.float32(1e-3) * rng.standard_normal(bank.shape, dtype=np.float32)
    np.testing.assert_array_equal(code.NearestIndex(bank).search(features, 1)[1][:, 0], shuffled)


@needs_cuda
def test_bad_patches_are_marked_on_device(rng):
    features = rng.standard_normal((150, 20), dtype=np.float32)
    features[[70, 140], [3, 19]] = np.nan, np.inf
    index = cuda.NearestPatches(features[:50].copy())
    index.reserve(200)
    distance, number, bad_row = search_on_device(index, features, 2)
    bad = np.isin(np.arange(150), [70, 140])
    assert bad_row == 70
    assert np.isnan(distance[bad]).all() and (number[bad] == -1).all()
    assert np.isfinite(distance[~bad]).all() and (number[~bad] >= 0).all()


@needs_cuda
def test_parts_agree_with_the_whole(rng):
    bank, features = rng.standard_normal((500, 10), dtype=np.float32), rng.standard_normal((300, 10), dtype=np.float32)
    in_parts, whole = code.NearestIndex(bank, work_bytes=1), code.NearestIndex(bank)
    for one, other in zip(in_parts.search(features, 4), whole.search(features, 4), strict=True):
        np.testing.assert_array_equal(one, other)
    features[[129, 299], 5] = np.nan
    with pytest.raises(ValueError, match="NaN or Inf in row 129"):
        in_parts.search(features, 1)


@needs_cuda
def test_smoothing_on_device(rng):
    scores = rng.standard_normal((12, 17), dtype=np.float32)
    smoother = cuda.Smoother((12, 17), (50, 61), 2.0)
    anomaly_map, maximum = code.DeviceMemory(4 * 50 * 61), code.DeviceMemory(4)
    for worst in (0.0, np.inf, 0.0, np.nan):
        scores[11, 16] = worst
        source = on_device(scores)
        smoother(source.pointer, anomaly_map.pointer, maximum.pointer)
        code.synchronize(0)
        (largest,) = from_device(maximum, 1, np.float32)
        if worst == 0:
            expected, expected_maximum = kernels.smooth(scores, (50, 61), 2.0, backend="numpy")
            np.testing.assert_allclose(from_device(anomaly_map, (50, 61), np.float32), expected, atol=2e-6)
            np.testing.assert_allclose(largest, expected_maximum, atol=2e-6)
        else:
            assert np.isnan(largest)


@needs_cuda
def test_arguments_on_device():
    index = cuda.NearestPatches(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match="at most the bank's 3 rows, found 4"):
        index.search(1, 1, 4, cuda.Neighbours(1, 1))
    with pytest.raises(ValueError, match="must be device pointers, found 0"):
        index.search(0, 1, 1, cuda.Neighbours(1, 1))
    with pytest.raises(ValueError, match="must be device pointers, found 0"):
        cuda.Smoother((3, 3), (6, 6), 1.0)(1, 0, 1)
    with pytest.raises(ValueError, match="sigma"):
        cuda.Smoother((3, 3), (6, 6), -1.0)
    with pytest.raises(ValueError, match="larger than the device memory"):
        code.DeviceMemory(4).copy_from_host(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match="allocating memory failed .* too little free memory"):
        code.DeviceMemory(1 << 50)


def exact(row, centre, exponent):
    return [Fraction(float(x)) * Fraction(2) ** exponent - Fraction(float(c)) for x, c in zip(row, centre, strict=True)]


def cut(value, digits=24):
    """Cut float64 numbers towards zero to so many binary digits."""
    mantissa, exponent = np.frexp(value)
    return np.ldexp(np.trunc(mantissa * 2.0**digits), exponent - digits)


def dot_in_blocks(products, size, total=0.0):
    """Add products as tensor cores do: blocks aligned to their largest term, without guard digits, then cut."""
    for begin in range(0, len(products), size):
        terms = np.append(products[begin : begin + size], total)
        unit = np.ldexp(1.0, int(np.frexp(np.abs(terms).max())[1]) - 24)
        total = float(cut(np.sum(np.trunc(terms / unit) * unit)))
    return total


def prepared_pair(bank_row, query):
    """Both rows as the prepare kernel makes them, in the frame of a bank of two rows, and as exact numbers."""
    exponent = -int(np.floor(np.log2(np.abs(bank_row).max())))
    centre = np.ldexp((bank_row.astype(np.float64) + bank_row[::-1]) / 2, exponent).astype(np.float32)
    both = []
    for row in (bank_row, query):
        halves, weight, half_norm, norm, residual = code.prepare_row(row, centre, exponent)
        numbers = exact(row, centre, exponent)
        assert sum(x * x for x in numbers) <= Fraction(norm) ** 2
        rounded = [Fraction(float(h)) * Fraction(weight) for h in halves]
        assert sum(x * x for x in rounded) <= Fraction(norm) ** 2
        assert sum((x - y) ** 2 for x, y in zip(numbers, rounded, strict=True)) <= Fraction(residual) ** 2
        assert np.all(np.abs(halves) < 2**10)
        np.testing.assert_array_equal(halves.astype(np.float16), halves)
        assert not np.any((halves != 0) & (np.abs(halves) < 2.0**-14))
        both.append((numbers, halves.astype(np.float64), weight, half_norm, (norm, residual)))
    return both


def share_of_bound(bank_row, query):
    """The largest error of a score, over orders of addition and slots, as a share of what score_error allows."""
    (b, b_halves, b_weight, half_norm, b_extent), (q, q_halves, q_weight, _, q_extent) = prepared_pair(bank_row, query)
    score = sum(x * x for x in b) / 2 - sum(x * y for x, y in zip(q, b, strict=True))
    error = code.score_error(len(query), q_extent, b_extent)
    worst = Fraction(0)
    weight = q_weight * b_weight
    for size in (1, 4, 8, 16):
        found = np.float32(dot_in_blocks(q_halves * b_halves, size, -half_norm / weight))
        for slot in (0, 15):
            marked = (found.view(np.uint32) & np.uint32(0xFFFFFFF0) | np.uint32(slot)).view(np.float32)
            worst = max(worst, abs(-Fraction(float(marked)) * Fraction(weight) - score))
    return float(worst / Fraction(error))


@needs_code
@pytest.mark.parametrize("d", [1, 7, 64, 384])
def test_no_score_is_farther_off_than_its_bound(rng, d):
    def normal():
        return rng.standard_normal(d).astype(np.float32)

    spike = (np.arange(d) == d // 2) * np.float32(1e7)
    pairs = {
        "plain": (normal(), normal()),
        "equal": (row := normal(), row),
        "far from zero": (normal() + np.float32(1e6), normal() + np.float32(1e6)),
        "far query": (normal(), normal() * np.float32(1e9)),
        "near query": (normal(), normal() * np.float32(1e-9)),
        "huge": (normal() * np.float32(1e37), normal() * np.float32(1e37)),
        "tiny": (normal() * np.float32(1e-36), normal() * np.float32(1e-36)),
        "denormal": (normal() * np.float32(1e-41), normal() * np.float32(1e-41)),
        "one heavy dimension": (normal() + spike, normal() + spike),
        "one heavy dimension, both signs": (normal() + spike, normal() - spike),
        "wide range": tuple(np.ldexp(normal(), rng.integers(-40, 1, d)).astype(np.float32) for _ in range(2)),
        "long sum of one sign": (np.abs(normal()), -np.abs(normal())),
    }
    for name, (bank_row, query) in pairs.items():
        assert share_of_bound(bank_row, query) <= 1, name


@needs_code
def test_the_bound_is_no_larger_than_it_must_be(rng):
    # Every component is rounded down by nearly half a digit, and all of these errors add up.
    d = 64
    signs = np.where(np.arange(d) < d // 2, 1, -1).astype(np.float32)  # antisymmetric: the centre is 0
    row = signs * np.float32(1 + 0.98 * 2.0**-11)
    assert 0.5 < share_of_bound(row, row) <= 1
    # The additions are cut one by one: small products after a large one are lost.
    row = signs.copy()
    assert 0.02 < share_of_bound(row, np.where(np.arange(d) == 0, 1, 2.0**-10).astype(np.float32) * signs) <= 1
    # Usual features: the error is a small part of the scores' spread, so few rows must be measured.
    bank_row, query = rng.standard_normal((2, 384)).astype(np.float32)
    (*_, b_extent), (*_, q_extent) = prepared_pair(bank_row, query)
    assert code.score_error(384, q_extent, b_extent) < 1e-3 * b_extent[0] * q_extent[0]


@needs_code
@pytest.mark.parametrize("d", [64, 384, 1536])
def test_what_additions_cut_off_is_in_the_bound(d):
    # Halves lose nothing of these rows. One large product comes first; each of the others is nearly a unit in its last
    # place, and is cut off where products are added one by one. The query is large, so that |b|^2 counts for nothing.
    bank_row = np.full(d, (1 - 2.0**-11) * 2.0**-12, np.float32)
    query = np.full(d, 2.0**-1, np.float32)
    bank_row[0], query[0] = 1, 2.0**10
    halves, extents = [], []
    for row in (bank_row, query):
        of_row, weight, _, *extent = code.prepare_row(row, np.zeros(d, np.float32), 0)
        np.testing.assert_array_equal(of_row * np.float32(weight), row)
        halves.append(of_row.astype(np.float64) * weight)
        extents.append(tuple(extent))
    products = halves[0] * halves[1]
    cut_off = abs(float(products.sum()) - dot_in_blocks(products, 1))
    assert 0.4 < cut_off / code.score_error(d, extents[1], extents[0]) <= 1


@needs_code
@pytest.mark.parametrize("d", [64, 384, 1536])
def test_what_additions_to_the_norm_cut_off_is_in_the_bound(d):
    # As above, but what is large is |b|^2 / 2, where the sum starts; 2^-10 is the unit in its last place.
    bank_row, query = np.full(d, 2.0**-4, np.float32), np.full(d, (1 - 2.0**-11) * 2.0**-6, np.float32)
    bank_row[0], query[0] = 129, 0
    extents = []
    for row in (bank_row, query):
        halves, weight, _, *extent = code.prepare_row(row, np.zeros(d, np.float32), 0)
        np.testing.assert_array_equal(halves * np.float32(weight), row)
        extents.append(tuple(extent))
    start, products = -float((bank_row.astype(np.float64) ** 2).sum() / 2), bank_row.astype(np.float64) * query
    cut_off = abs(start + float(products.sum()) - dot_in_blocks(products, 1, start))
    assert 0.3 < cut_off / code.score_error(d, extents[1], extents[0]) <= 1


@needs_code
def test_halves_are_those_of_ieee(rng):
    values = np.ldexp(rng.standard_normal(20_000), rng.integers(-14, 8, 20_000)).astype(np.float32)
    values[:3] = 256, -256 - 1 / 8, 256 + 3 / 8  # exponent 0, and two ties
    values = np.clip(values, -500, 500)
    halves, weight, *_ = code.prepare_row(values, np.zeros_like(values), 0)
    assert weight == 1
    expected = values.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(halves, np.where(np.abs(expected) < 2.0**-14, 0, expected))


@pytest.mark.skipif(CUDA_REQUIRED, reason="here the backend works")
def test_what_is_missing_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgead._cuda", None)
    problem = "which is not built: install edgead from source with EDGEAD_CUDA=1"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("edgead._cuda")
    with pytest.raises(SettingsError, match=problem):
        kernels.NearestPatches(np.ones((1, 1), np.float32), backend="cuda")
    assert "cuda" not in kernels.backends()
    found = doctor._tried(doctor._cuda)
    assert not found["ok"] and problem in found["detail"]
    no_gpu = SimpleNamespace(device_count=lambda: 0, device_problem=lambda: "no driver")
    monkeypatch.setitem(sys.modules, "edgead._cuda", no_gpu)
    with pytest.raises(SettingsError, match=r"found no GPU \(no driver\): see whether nvidia-smi"):
        kernels.Smoother((2, 2), (4, 4), 1.0, backend="cuda")
    assert backend.cuda_problem().startswith("backend 'cuda' found no GPU")


def test_the_coreset_has_no_cuda_code():
    with pytest.raises(SettingsError, match="no code for this kernel: use backend='cpu'"):
        kernels.greedy_coreset(np.ones((2, 1), np.float32), 1, backend="cuda")


@needs_cuda
def test_a_working_gpu_is_found():
    assert kernels.backends()[-1] == "cuda"
    assert kernels.NearestPatches(np.ones((1, 1), np.float32), backend="cuda").backend == "cuda"
    assert kernels.Smoother((2, 2), (4, 4), 1.0, backend="cuda").backend == "cuda"
    found = doctor._tried(doctor._cuda)
    assert found["ok"] and code.device_name(0) in found["detail"]
