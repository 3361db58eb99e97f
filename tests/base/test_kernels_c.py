"""The kernels from C: the library is built without Python, the sample compiled, and results compared bit for bit."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgead import kernels

ROOT = Path(__file__).resolve().parents[2]
LEVELS = kernels.available_isas()
FOLDER = ROOT / "csrc" / "c"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LEVELS, reason="edgead is installed without native code"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("cmake", "gcc", "g++"))), reason="THE KERNELS FROM C ARE NOT TESTED: cmake, gcc, g++"
    ),
]

floats = np.ctypeslib.ndpointer(np.float32, flags="C")
integers = np.ctypeslib.ndpointer(np.int32, flags="C")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the static library and the sample are."""
    build = tmp_path_factory.mktemp("c")
    no_python = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("Python", "pybind11")]
    configure = ["cmake", "-S", ROOT, "-B", build, "-DEDGEAD_C=ON", *no_python]
    subprocess.run(configure, check=True, capture_output=True, timeout=120)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True, timeout=600)
    words = ["gcc", "-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", FOLDER / "sample.c", f"-I{FOLDER}"]
    words += [build / "libedgead_kernels.a", "-lstdc++", "-lm", "-pthread", "-o", build / "sample"]
    subprocess.run(words, check=True, timeout=120)
    return build


@pytest.fixture(scope="module")
def library(folder) -> ctypes.CDLL:
    """The functions of the header, from a shared library that the static one is part of."""
    file = folder / "kernels.so"
    archive = ["-Wl,--whole-archive", folder / "libedgead_kernels.a", "-Wl,--no-whole-archive"]
    subprocess.run(["g++", "-shared", *archive, "-pthread", "-o", file], check=True, timeout=120)
    found = ctypes.CDLL(str(file))
    size, pointer, i = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    found.edgead_index_new.restype, found.edgead_index_new.argtypes = pointer, [floats, size, size]
    found.edgead_index_free.restype, found.edgead_index_free.argtypes = None, [pointer]
    found.edgead_search.argtypes = [pointer, floats, size, i, floats, integers]
    found.edgead_smooth.argtypes = [floats, i, i, ctypes.c_double, floats, i, i, ctypes.POINTER(ctypes.c_float)]
    found.edgead_last_error.restype = ctypes.c_char_p
    return found


def _data(rows: int, columns: int, patches: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(rows)
    spectrum = np.geomspace(1, 0.01, columns)
    bank, features = (random.standard_normal((n, columns)) * spectrum for n in (rows, patches))
    return bank.astype(np.float32), features.astype(np.float32)


def _search(library, index, features, k):
    distance, row = np.empty((len(features), k), np.float32), np.empty((len(features), k), np.int32)
    return library.edgead_search(index, features, len(features), k, distance, row), distance, row


def _smooth(library, scores, size, sigma):
    out, maximum = np.empty(size, np.float32), ctypes.c_float()
    code = library.edgead_smooth(scores, *scores.shape, sigma, out, *size, ctypes.byref(maximum))
    return code, out, maximum.value


@pytest.mark.parametrize("level", LEVELS)
def test_the_sample_gives_what_python_gives(folder, tmp_path, level):
    bank, features = _data(3000, 40, 20 * 24)
    bank.tofile(tmp_path / "bank.f32")
    features.tofile(tmp_path / "features.f32")
    words = [folder / "sample", "bank.f32", "features.f32", "40", "20", "24", "3.5", "map.f32"]
    environment = os.environ | {"EDGEAD_ISA": level}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    distance, _ = kernels.NearestPatches(bank, backend=f"cpu:{level}").search(features)
    expected, maximum = kernels.smooth(distance.reshape(20, 24), (160, 192), 3.5, backend=f"cpu:{level}")
    found = np.fromfile(tmp_path / "map.f32", np.float32)
    np.testing.assert_array_equal(found.view(np.uint32), expected.reshape(-1).view(np.uint32))
    assert np.float32(done.stdout) == np.float32(maximum)


def test_the_sample_says_what_is_wrong(folder, tmp_path):
    bank, features = _data(30, 8, 4)
    features[2, 3] = np.nan
    bank.tofile(tmp_path / "bank.f32")
    features.tofile(tmp_path / "features.f32")
    words = [folder / "sample", "bank.f32", "features.f32", "8", "2", "2", "1", "map.f32"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "NaN or Inf in row 2" in done.stderr


@pytest.mark.parametrize("rows", [9, 300, 4000])  # without codes, with codes, and where Python turns the bank
def test_neighbours_are_those_of_python(library, rows):
    bank, features = _data(rows, 48, 333)
    bank[rows // 2] = bank[3]  # a tie
    features[:2] = bank[3]
    expected = kernels.NearestPatches(bank).search(features, 9)
    index = library.edgead_index_new(bank, *bank.shape)
    with ThreadPoolExecutor(4) as pool:
        for code, distance, row in pool.map(lambda _: _search(library, index, features, 9), range(12)):
            assert code == 0
            np.testing.assert_array_equal(distance, expected[0])
            np.testing.assert_array_equal(row, expected[1])
    assert _search(library, index, features[:0], 1)[0] == 0
    library.edgead_index_free(index)


@pytest.mark.parametrize(
    ("shape", "size", "sigma"),
    [
        ((28, 28), (224, 224), 4.0),
        ((7, 31), (50, 17), 0.0),  # the height grows, the width shrinks
        ((64, 80), (64, 80), 2.3),  # the Gaussian alone
        ((12, 30), (12, 30), 1.0),  # too small for the filter that slides
        ((20, 40), (20, 40), 30.0),  # mirrored more than once
        ((1, 1), (5, 3), 1000.0),
        ((16, 16), (16, 16), 1e-300),
    ],
)
def test_maps_are_those_of_python(library, shape, size, sigma):
    scores = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected, maximum = kernels.smooth(scores, size, sigma)
    code, found, largest = _smooth(library, scores, size, sigma)
    assert code == 0 and largest == maximum
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_errors_are_words_of_the_thread_that_made_them(library):
    bank, features = _data(20, 8, 5)
    index = library.edgead_index_new(bank, *bank.shape)

    def fails(code, words):
        assert code == -1 and words in library.edgead_last_error().decode()

    fails(_search(library, index, features, 0)[0], "k must be from 1 to 16")
    fails(_search(library, index, features, 17)[0], "k must be from 1 to 16")
    fails(_search(library, None, features, 1)[0], "index is NULL")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(library.edgead_last_error).result() == b""
    features[4, 7] = np.inf
    fails(_search(library, index, features, 1)[0], "NaN or Inf in row 4")
    library.edgead_index_free(index)
    library.edgead_index_free(None)

    assert library.edgead_index_new(bank, 0, 8) is None
    fails(-1, "at least one row")
    bank[7, 1] = np.nan
    assert library.edgead_index_new(bank, *bank.shape) is None
    fails(-1, "memory_bank")

    scores = np.zeros((20, 20), np.float32)
    for sigma in (-1.0, 1001.0, float("nan")):
        fails(_smooth(library, scores, (20, 20), sigma)[0], "sigma must be from 0 to 1000")
    fails(_smooth(library, scores, (0, 20), 1.0)[0], "from 1 to 2^20 rows and columns")
    out = np.empty((20, 20), np.float32)
    fails(library.edgead_smooth(scores, 20, 20, 1.0, out, 20, (1 << 20) + 1, None), "from 1 to 2^20 rows and columns")
    fails(library.edgead_smooth(scores, 20, 20, 1.0, scores, 20, 20, None), "overlaps")
    assert library.edgead_smooth(scores, 20, 20, 1.0, out, 20, 20, None) == 0
    scores[3, 3] = np.nan
    for size in ((20, 20), (40, 40)):
        fails(_smooth(library, scores, size, 1.0)[0], "NaN or Inf")
