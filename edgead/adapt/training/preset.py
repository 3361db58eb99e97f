"""Settings of a preset in the proportions of given images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.adapt.frozen_backbone import find_added
from edgead.adapt.methods import METHODS, find_preset
from edgead.adapt.methods.settings import read_settings
from edgead.adapt.training import AUTO, AUTO_DETECTOR
from edgead.adapt.training.good_images import STEP_PX, GoodImages, find_proportions, keep_proportions
from edgead.errors import SettingsError


def check_settings(detector: str, preset: str, chosen: Mapping[str, Any]) -> None:
    """Refuse an invalid preset, or invalid settings in addition to it, before images are read.

    Raises SettingsError: the detector, preset or a setting is unknown, or the method refuses a value, such as too small
        an input.
    """
    of_preset = {} if preset == AUTO else find_preset(detector, preset)
    settings = {**of_preset, **chosen}
    method = METHODS.find(detector).variant(settings)
    size = read_settings(method.config_class, settings, detector=detector).image_size
    if min(size) < method.smallest_px:
        raise SettingsError(f"image_size {list(size)}: {detector} needs at least {method.smallest_px} pixels a side")


def preset_settings(
    good: GoodImages,
    detector: str,
    preset: str,
    chosen: Mapping[str, Any] = {},
) -> tuple[dict[str, Any], str]:
    """Return a preset's settings in the proportions of the images, and the reason; `auto` chooses by this machine.

    `chosen` settings replace the preset's; if they change the network, the input size is not adapted.

    Raises SettingsError: the detector or the preset is unknown.
    """
    if preset == AUTO:
        if detector != AUTO_DETECTOR:
            raise SettingsError(f"--preset {AUTO} is of {AUTO_DETECTOR}; {detector} has presets of its own")
        from edgead.adapt.training.auto import suited_preset  # imported here, as only `auto` times a network

        preset = suited_preset()
    settings = find_preset(detector, preset)
    method = METHODS.find(detector)
    variant = method.variant(settings)
    config = variant.config_class(**settings)
    if method.variant({**settings, **chosen}) is not variant or not hasattr(config, "fill"):
        return settings, ""
    if good.tiles is not None:
        height, width = config.image_size
        return {**settings, "image_size": [height, width]}, f"{width} x {height} px a tile"
    proportions = find_proportions(good.find(), good.roi)
    added = find_added(chosen.get("backbone", config.backbone))
    step = added.patch if added else STEP_PX
    fitted = keep_proportions({**settings, "image_size": list(config.image_size)}, proportions, step)
    height, width = fitted["image_size"]
    return fitted, f"{width} x {height} px ({proportions.reason})"
