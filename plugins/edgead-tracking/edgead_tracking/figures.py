"""Conversion of a training record to named numbers and texts, as TensorBoard and MLflow take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def split(record: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Split a record into its numbers and, as texts, its other values, by name.

    >>> split({"event": "end", "seconds": 3.5, "threshold": 0.5, "groups": {"rule": "auto", "groups": 24}, "odd": [1]})
    ({'threshold': 0.5, 'groups.groups': 24}, {'groups.rule': 'auto', 'odd': '[1]'})
    """
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for inner, one in value.items():
                add(f"{name}.{inner}" if name else inner, one)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[name] = value
        else:
            texts[name] = value if isinstance(value, str) else json.dumps(value, default=str)

    add("", {name: value for name, value in record.items() if name not in ("event", "seconds")})
    return numbers, texts
