"""Whether there is a GPU that networks can run on: without one, tests skip with the reason or fail, see `backends`."""

from __future__ import annotations

import pytest
from backends import CUDA_REQUIRED

from edgead.errors import SettingsError
from edgead.runtime.device import open_device


def _problem() -> str:
    try:
        open_device().close()
    except SettingsError as error:
        return str(error)
    return ""


GPU_PROBLEM = _problem()
needs_gpu = pytest.mark.skipif(bool(GPU_PROBLEM) and not CUDA_REQUIRED, reason=f"GPU NOT TESTED: {GPU_PROBLEM}")
