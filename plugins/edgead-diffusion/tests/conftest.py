"""Fixtures that these tests share with the core's, and the path of the modules of its tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from one_thread import one_thread as one_thread  # noqa: E402
