"""What these tests share with the core's: the fixture of one thread, and modules of its folder of tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from one_thread import one_thread as one_thread  # noqa: E402
