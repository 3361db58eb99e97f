"""Manifests of the schemas 1 to 4 in the words of schema 5.

1 knew one graph, 2 added those of other precisions, 3 how thresholds were changed, 4 groups of images. All of them had
one of two heads, and kept what belongs to the fp32 graph at the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EARLIER = (1, 2, 3, 4)
_HEADS = {"patch_nearest": ("nearest", "features"), "map": ("map", "patch_scores")}


def upgrade(content: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a manifest of an earlier schema says as one of schema 5, which is validated afterwards.

    Keys that nobody knows stay where they are, and are refused there.

    Raises
    ------
    ValueError
        It lacks what every earlier manifest had, or contradicts itself.
    """
    old = dict(content)
    version = old.pop("schema_version")
    if version not in EARLIER:
        raise ValueError(f"there was never a schema {version}")
    scoring = _section(old, "scoring")
    name = scoring.pop("head", None)
    if not isinstance(name, str) or name not in _HEADS:
        raise ValueError(f"scoring.head is one of {', '.join(_HEADS)}")
    kind, output = _HEADS[name]
    if old.pop("output", None) != output:
        raise ValueError(f"the head {name!r} scores {output}, the manifest names another output")
    if kind == "map":
        scoring.pop("num_neighbors", None)
        if scoring.pop("reweight_neighbors", 0) != 0:
            raise ValueError("reweight_neighbors needs the rows of a memory bank, the head 'map' has none")
    arrays = {"memory_bank": kind == "nearest", "usual_scores": bool(scoring.get("by_place"))}
    fp32 = {name: old.pop(name) for name in ("calibration", "golden") if name in old}
    records = _section(old, "precisions") if "precisions" in old else {}
    only = {"name": old.pop("input", "image"), "preprocessing": old.pop("preprocessing", None)}
    return {
        **old,
        "inputs": [only],
        "head": {"kind": kind, **scoring},
        "graphs": {"fp32": fp32, **{name: _record(record) for name, record in records.items()}},
        "arrays": {name: f"{name}.npy" for name, needed in arrays.items() if needed},
    }


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.pop(name, None)
    if not isinstance(section, dict):
        raise ValueError(f"the section {name} is missing, or is none")
    return dict(section)


def _record(record: object) -> object:
    """One of the graphs; what is no section is refused when it is validated."""
    if not isinstance(record, dict):
        return record
    return {"file" if key == "graph" else key: value for key, value in record.items()}
