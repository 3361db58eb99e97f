"""A pytest plugin that puts the emulated edgead._cuda of EDGEAD_CUDA_EMULATED in the real one's place."""

from __future__ import annotations

import importlib.util
import os
import sys

_spec = importlib.util.spec_from_file_location("edgead._cuda", os.environ["EDGEAD_CUDA_EMULATED"])
assert _spec and _spec.loader
sys.modules["edgead._cuda"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["edgead._cuda"])
