"""Fixtures that these tests share with the core's, and the path of the modules of its tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from shared import line_data as line_data  # noqa: E402
from shared import once as once  # noqa: E402
from shared import pytest_make_collect_report as pytest_make_collect_report  # noqa: E402
from shared import pytest_runtest_makereport as pytest_runtest_makereport  # noqa: E402
from shared import trained_model as trained_model  # noqa: E402
