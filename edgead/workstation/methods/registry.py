"""Registry of methods, by name, and their configurations as plain settings of a manifest and of the command line.

A package adds one by `[project.entry-points."edgead.methods"]` with `NAME = "module:Class"`, a subclass of
`edgead.workstation.methods.method.Method`. Each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgead.components.added import Added
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.workstation.methods.method import Method

Config = TypeVar("Config")


def read_settings(config: type[Config], settings: Mapping[str, Any], *, detector: str) -> Config:
    """Build a frozen config dataclass from settings such as `plain_settings` gives; missing ones keep their defaults.

    Raises
    ------
    SettingsError
        A setting that the detector does not have, or a value that its config refuses.
    """
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise SettingsError(f"{detector} has no setting {', '.join(unknown)}: it has {', '.join(known)}")
    try:
        return TypeAdapter(config).validate_python(dict(settings))
    except ValidationError as error:
        raise SettingsError("; ".join(map(_described, error.errors()))) from None


def _described(problem: Any) -> str:
    """Where, what is expected, and what was found; of what a config itself refuses, just its own words."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    needs = "a list in brackets is needed" if problem["type"] == "tuple_type" else problem["msg"]
    return f"{'.'.join(map(str, problem['loc']))}: {needs}, found {problem['input']!r}"


def plain_settings(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON types."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


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
