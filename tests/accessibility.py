"""What axe-core finds wrong with a page for people who read it aloud, by keyboard or with weak eyes."""

from __future__ import annotations

from typing import Any

import pytest

GRAVE = ("serious", "critical")


def grave_findings(page: Any) -> list[str]:
    """Each grave finding in what the page shows now: rule, element, what is wrong; skips loudly without axe-core."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="ACCESSIBILITY IS NOT TESTED")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
