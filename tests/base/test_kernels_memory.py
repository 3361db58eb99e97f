"""No kernel reads or writes beyond its arrays: every array ends at a page that may not be touched.

Sanitizers do not see masked loads and stores; the processor does. A kernel that goes too far kills its process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgead import kernels

# Sizes on and off the widths of vectors, panels and tiles; numpy computes what is expected.
SETUP = """
import ctypes, mmap, sys
import numpy as np
from edgead import kernels
from edgead.kernels.backend import native

level = sys.argv[1]
backend = f"cpu:{level}"
mprotect = ctypes.CDLL(None, use_errno=True).mprotect
mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
rng = np.random.default_rng(23)


def guarded(shape):
    size = 4 * int(np.prod(shape))
    length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, length + mmap.PAGESIZE), np.uint8)
    if mprotect(pages.ctypes.data + length, mmap.PAGESIZE, 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return pages[length - size : length].view(np.float32).reshape(shape)


def copied(values):
    array = guarded(values.shape)
    array[:] = values
    return array


def random(*shape):
    return copied(rng.standard_normal(shape))


def check(bank, features, found):
    expected = np.sort(np.linalg.norm(features[:, None] - bank.astype(np.float64), axis=2), axis=1)
    np.testing.assert_allclose(found[0], expected[:, : found[0].shape[1]], rtol=1e-6)
"""

NEAREST = """
for d in [*range(1, 36), 63, 64, 65, 151]:
    for m, n in ((1, 1), (9, 5), (33, 13), (400, 29)):
        bank, features = random(m, d), random(n, d)
        check(bank, features, kernels.NearestPatches(bank, backend=backend).search(features, min(m, 3)))
"""

PRESCAN = """
for d in [*range(1, 36), 63, 64, 65, 151]:
    bank, features = random(300, d), random(29, d)
    for p in {0, 1, d // 2, d}:
        directions = copied(np.linalg.qr(rng.standard_normal((d, d)))[0][:p])
        check(bank, features, native.NearestIndex(bank, level, directions).search(features, 3))
"""

CORESET = """
for d in [*range(1, 36), 63, 64, 65, 151]:
    features = random(150, d)
    assert len(set(kernels.greedy_coreset(features, 90, backend=backend).tolist())) == 90
    expected = ((features - features[149].astype(np.float64)) ** 2).sum(axis=1)
    np.testing.assert_allclose(native.coreset_distances(features, 149, level), expected, rtol=1e-4)
"""

MAPS = """
for width in range(1, 70):
    for shape in ((1, 1), (5, width), (7, 3)):
        scores, out = random(*shape), guarded((9, width))
        maximum = kernels.Smoother(shape, (9, width), 1.5, backend=backend)(scores, out)[1]
        assert maximum == out.max()
        np.testing.assert_allclose(out, kernels.smooth(scores.copy(), (9, width), 1.5, backend="numpy")[0], atol=1e-5)
"""


def run(code, level):
    environment = os.environ | {"PYTHONPATH": str(Path(kernels.__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", SETUP + code, level], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages by Linux's mprotect")
@pytest.mark.parametrize("code", [NEAREST, PRESCAN, CORESET, MAPS], ids=["nearest", "prescan", "coreset", "maps"])
@pytest.mark.parametrize("level", kernels.available_isas())
def test_arrays_that_end_at_a_guard_page(level, code):
    result = run(code, level)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not kernels.available_isas(), reason="edgead is installed without native code")
def test_a_guard_page_ends_the_process():
    code = """
array = random(3, 5)
for size in (60, 61):
    print(len(ctypes.string_at(array.ctypes.data, size)), flush=True)
"""
    result = run(code, kernels.isa())
    assert (result.returncode != 0, result.stdout) == (True, "60\n")
