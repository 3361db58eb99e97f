"""A detector's configuration to and from the plain settings of a manifest and of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from edgead.errors import SettingsError

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
    return config(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})


def plain_settings(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON types."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
