"""Registry of methods, by name: those of edgead, and those that other packages add by entry points.

A package adds one by `[project.entry-points."edgead.methods"]` with `NAME = "module:Class"`, a subclass of
`edgead.workstation.methods.method.Method`. Each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgead.components.added import Added
from edgead.errors import SettingsError
from edgead.workstation.training import AUTO

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


# Of edgead's own, so that a wrong one is refused before torch is loaded; a test compares them with the classes.
_PRESETS = {
    "patchcore": ("fast", "default", "fine", "foundation"),
    "simplenet": ("default", "paper"),
    "efficient_ad": ("default", "fine", "nano", "small", "medium", "paper", "paper_medium"),
    "mvg": ("fast", "default", "foundation"),
    "draem": ("default", "cpu"),
    "cs_flow": ("fast", "default"),
    "golden": ("fast", "default", "fine"),
    "cycle": ("default",),
}


def check_preset(detector: str, preset: str) -> None:
    """Refuse a preset that a detector of edgead's own does not have, as `find_preset` does, and import nothing."""
    if detector in _PRESETS and preset not in (*_PRESETS[detector], AUTO):
        raise _no_preset(detector, preset, _PRESETS[detector])


def _no_preset(detector: str, preset: str, presets: Iterable[str]) -> SettingsError:
    return SettingsError(f"{detector} has no preset {preset!r}: choose one of {', '.join(presets)}")


def find_preset(detector: str, preset: str) -> dict[str, Any]:
    """Settings of a detector's preset: what differs from its defaults.

    Raises
    ------
    SettingsError
        Unknown detector or preset; the message lists those there are.
    """
    presets = METHODS.find(detector).presets
    if preset not in presets:
        raise _no_preset(detector, preset, presets)
    return dict(presets[preset])
