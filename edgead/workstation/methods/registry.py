"""Registry of methods, by name: those of edgead, and those that other packages add by entry points.

A package adds one by `[project.entry-points."edgead.methods"]` with `NAME = "module:Class"`, a subclass of
`edgead.workstation.methods.method.Method`. Each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.workstation.methods.method import Method

GROUP = "edgead.methods"
BUILT_IN = {
    "patchcore": "patchcore.detector:PatchCore",
    "simplenet": "simplenet.detector:SimpleNet",
    "efficient_ad": "efficient_ad.detector:EfficientAD",
    "mvg": "mvg.detector:Mvg",
    "draem": "draem.detector:Draem",
    "cs_flow": "cs_flow.detector:CsFlow",
    "golden": "golden:Golden",
    "inp_former": "inp_former.detector:InpFormer",
    "inp_lite": "inp_lite:InpLite",
    "metauas": "metauas.detector:MetaUas",
    "winclip": "winclip:WinClip",
    "anomaly_clip": "anomaly_clip.detector:AnomalyClip",
    "crane": "crane.detector:Crane",
    "filo": "filo.detector:Filo",
}


class Methods(Mapping[str, "type[Method[Any]]"]):
    """Method classes by name; edgead's own cannot be replaced."""

    def __getitem__(self, name: str) -> type[Method[Any]]:
        if name in BUILT_IN:
            module, _, of_class = BUILT_IN[name].partition(":")
            return getattr(import_module(f"edgead.workstation.methods.{module}"), of_class)
        return _added()[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter((*BUILT_IN, *_added()))

    def __len__(self) -> int:
        return len(BUILT_IN) + len(_added())

    def find(self, name: str) -> type[Method[Any]]:
        """Look a method up.

        Raises
        ------
        SettingsError
            There is none of that name; the message lists those there are. Or another package's cannot be imported.
        """
        if name not in tuple(self):
            raise SettingsError(f"unknown detector {name!r}: choose one of {', '.join(self)}")
        try:
            return self[name]
        except Exception as error:
            if name in BUILT_IN:
                raise
            raise SettingsError(f"detector {name} of {_added()[name].value} cannot be imported: {error}") from error


METHODS = Methods()


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


def _added() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}
