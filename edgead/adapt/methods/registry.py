"""Registry of methods, by name: edgead's own methods, and methods that other packages add by entry points.

A package adds a method by `[project.entry-points."edgead.methods"]` with `NAME = "module:Class"`, a subclass of
`edgead.adapt.methods.method.Method`. A method is imported when it is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgead.adapt.methods.outline import check_known, read_outline
from edgead.components.added import Added
from edgead.errors import SettingsError, suggestion

if TYPE_CHECKING:
    from edgead.adapt.methods.method import Method

METHODS: Added[type[Method[Any]]] = Added(
    "edgead.methods",
    "detector",
    {
        name: f"edgead.{module}"
        for name, module in {
            "patchcore": "adapt.methods.patchcore:PatchCore",
            "simplenet": "workstation.methods.simplenet.detector:SimpleNet",
            "efficient_ad": "workstation.methods.efficient_ad.detector:EfficientAD",
            "mvg": "workstation.methods.mvg.detector:Mvg",
            "draem": "workstation.methods.draem.detector:Draem",
            "golden": "workstation.methods.golden:GoldenMethod",
            "cycle": "workstation.methods.cycle:Cycle",
        }.items()
    },
    gone={
        name: f"the detector {name} was taken out after version 0.1.0: retrain with another one of `edgead "
        f"presets`, such as {other}; models of {name} still run as they are"
        for name, other in {"cs_flow": "patchcore", "winclip": "anomaly_clip"}.items()
    },
)


def find_preset(detector: str, preset: str) -> dict[str, Any]:
    """Return a preset of a detector: the settings that differ from its defaults.

    Raises SettingsError: unknown detector or preset; the message lists the known ones.
    """
    presets = METHODS.find(detector).presets
    _check_preset(detector, preset, presets)
    return dict(presets[preset])


def check_names(detector: str, preset: str | None, settings: Iterable[str]) -> None:
    """Refuse a preset or settings that the detector does not have; without torch if the source file lists both.

    Raises SettingsError: unknown detector, preset or setting; the message lists the known ones.
    """
    METHODS.check(detector)
    outline = read_outline(METHODS.places()[detector])
    if outline is None:
        return
    if preset is not None:
        _check_preset(detector, preset, outline.presets)
    if outline.settings is not None:
        check_known(settings, outline.settings, detector=detector)


def _check_preset(detector: str, preset: str, presets: Iterable[str]) -> None:
    if preset not in presets:
        known = f"choose one of {', '.join(presets)}{suggestion(preset, presets)}"
        raise SettingsError(f"{detector} has no preset {preset!r}: {known}")
