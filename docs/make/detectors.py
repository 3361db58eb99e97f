"""Reference of detectors, their presets and settings, generated from the methods."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from docs.make.markdown import attributes, code, first_paragraph, table
from edgead.adapt.methods.registry import METHODS


def page() -> str:
    """Write the page."""
    parts = [
        "# Detectors, presets and settings",
        "`edgead train --detector NAME --preset PRESET --set SETTING=VALUE`. Which one to take is on "
        "[Choose a detector](../how-to/choose-a-detector.md).",
    ]
    for name in METHODS.own:
        method = METHODS.find(name)
        presets = ([code(preset), _assigned(values)] for preset, values in method.presets.items())
        parts += [
            f"## `{name}`",
            first_paragraph(method.__doc__),
            table(("preset", "sets"), presets),
            _settings(method.config_class),
        ]
        variants = {method.variant(values): values for values in method.presets.values()}
        for variant, values in variants.items():
            if variant is not method:
                parts += [
                    f"With {_assigned(values)}:",
                    first_paragraph(variant.__doc__),
                    _settings(variant.config_class),
                ]
    return "\n\n".join(parts) + "\n"


def _settings(config: type[Any]) -> str:
    means = attributes(config.__doc__)
    rows = ([code(each.name), code(each.type), _default(each), means.get(each.name, "")] for each in fields(config))
    return table(("setting", "takes", "default", "means"), rows)


def _assigned(values: Any) -> str:
    return ", ".join(code(f"{name}={value}") for name, value in values.items()) or "the defaults"


def _default(field: Any) -> str:
    return code(field.default) if field.default is not MISSING else ""
