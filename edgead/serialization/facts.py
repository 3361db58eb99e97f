"""Formatting of a report's values for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fact_text(value: Any) -> str:
    """Format a value without Python's brackets and quotes, and with few digits.

    >>> fact_text({"alike": True, "sizes": [320, 240], "share": 0.25})
    'alike yes, sizes 320, 240, share 0.25'
    """
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 0.001 else f"{value:.2g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {fact_text(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(fact_text, value))
    return str(value)
