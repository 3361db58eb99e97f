"""Conversion of a detector's configuration to and from plain settings, as in a manifest or on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgead.adapt.methods.outline import check_known
from edgead.errors import SettingsError

Config = TypeVar("Config")


def read_settings(config: type[Config], settings: Mapping[str, Any], *, detector: str) -> Config:
    """Build a frozen config dataclass from plain settings (see `plain_settings`); missing ones keep their defaults.

    An `image_size` of one number is a square.

    Raises SettingsError: the detector does not have a setting, or its config refuses a value.
    """
    check_known(settings, [field.name for field in fields(config)], detector=detector)  # type: ignore[arg-type]
    if isinstance(side := settings.get("image_size"), int):
        settings = {**settings, "image_size": (side, side)}
    try:
        return TypeAdapter(config).validate_python(dict(settings))
    except ValidationError as error:
        raise SettingsError("; ".join(map(_described, error.errors()))) from None


def _described(problem: Any) -> str:
    """Describe a validation error: setting, expected and found value; or only the message of the config itself."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    needs = "a list in brackets is needed" if problem["type"] == "tuple_type" else problem["msg"]
    return f"{'.'.join(map(str, problem['loc']))}: {needs}, found {problem['input']!r}"


def plain_settings(config: Any) -> dict[str, Any]:
    """Return the configuration as plain JSON types."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
