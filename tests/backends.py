"""The backends that a test of a kernel runs over.

Without a GPU, the tests of "cuda" are skipped with the reason; EDGEAD_REQUIRE=cuda makes that a failure.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from edgead import kernels
from edgead.kernels.backend import cuda_problem

CUDA_REQUIRED = "cuda" in os.environ.get("EDGEAD_REQUIRE", "").split(",")
needs_cuda = pytest.mark.skipif(
    bool(cuda_problem()) and not CUDA_REQUIRED, reason=f"CUDA KERNELS NOT TESTED: {cuda_problem()}"
)

ON_HOST = [*(f"cpu:{isa}" for isa in kernels.available_isas()), "numpy"]
WORKING = [*ON_HOST, *(["cuda"] if CUDA_REQUIRED or not cuda_problem() else [])]
EACH = [*ON_HOST, pytest.param("cuda", marks=needs_cuda)]  # for parametrize


def at_odd_bytes(array):
    """The same values where no float or integer of several bytes may begin."""
    there = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    there[...] = array
    return there
