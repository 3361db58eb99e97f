"""Tries the edgead-kernels that is installed beside this Python, against numpy; nothing else of edgead is there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

import edgead_kernels as kernels
import numpy as np

assert kernels.__file__.startswith(sys.prefix), kernels.__file__
assert all(importlib.util.find_spec(name) is None for name in ("cv2", "edgead", "onnxruntime", "torch"))
rng = np.random.default_rng(0)
bank, features = rng.random((3000, 64), dtype=np.float32), rng.random((200, 64), dtype=np.float32)
exact = np.linalg.norm(features[:, None].astype(np.float64) - bank, axis=2)
for backend in (*kernels.backends(), "numpy"):
    distance, rows = kernels.NearestPatches(bank, backend=backend).search(features)
    assert (rows[:, 0] == exact.argmin(axis=1)).all()
    np.testing.assert_allclose(distance[:, 0], exact.min(axis=1), rtol=1e-6)
assert kernels.available_isas(), "the compiled kernels are not there"
picked = kernels.greedy_coreset(bank, 30)
assert len(set(np.asarray(picked).ravel().tolist())) == 30, picked
maps = rng.random((40, 40), dtype=np.float32)
np.testing.assert_allclose(
    kernels.gaussian_blur(maps, 2.0), kernels.gaussian_blur(maps, 2.0, backend="numpy"), atol=1e-6
)
print(f"edgead-kernels {importlib.metadata.version('edgead-kernels')} on {kernels.isa()} agrees with numpy")
