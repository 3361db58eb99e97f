"""Registry of methods, by name: those of edgead, and those that other packages add by entry points.

A package adds one by `[project.entry-points."edgead.methods"]` with `NAME = "module:Class"`, a subclass of
`edgead.workstation.methods.method.Method`. Each is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgead.components.added import Added
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.workstation.methods.method import Method

METHODS: Added[type[Method[Any]]] = Added(
    "edgead.methods",
    "detector",
    {
        name: f"edgead.workstation.methods.{module}"
        for name, module in {
            "patchcore": "patchcore.detector:PatchCore",
            "simplenet": "simplenet.detector:SimpleNet",
            "efficient_ad": "efficient_ad.detector:EfficientAD",
            "mvg": "mvg.detector:Mvg",
            "draem": "draem.detector:Draem",
            "cs_flow": "cs_flow.detector:CsFlow",
            "golden": "golden:Golden",
            "cycle": "cycle:Cycle",
        }.items()
    },
)


def find_preset(detector: str, preset: str) -> dict[str, Any]:
    """Settings of a detector's preset: what differs from its defaults.

    Raises
    ------
    SettingsError
        Unknown detector or preset; the message lists those there are.
    """
    presets = METHODS.find(detector).presets
    if preset not in presets:
        raise SettingsError(f"{detector} has no preset {preset!r}: choose one of {', '.join(presets)}")
    return dict(presets[preset])
