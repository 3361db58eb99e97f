"""Estimated time of a frame, before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.adapt.methods import METHODS
from edgead.adapt.training.good_images import GoodImages
from edgead.artifact.preprocess import inputs_of
from edgead.images.files import load_image


def network_ms(detector: str, settings: Mapping[str, Any]) -> float:
    """Time one frame through a detector's untrained network, ms, on one core of this machine.

    Computing scores and anomaly map takes additional time.

    Raises SettingsError: invalid settings.
    """
    return METHODS.find(detector).from_settings(settings, pretrained=False).network_ms()


def tiles_account(good: GoodImages, detector: str, settings: Mapping[str, Any]) -> str:
    """Say into how many tiles the first image is cut, and about how long they take; empty without tiles.

    Raises SettingsError: invalid settings, or tiles that do not fit.
    Raises DatasetError, ImageError: there are no images, or the first cannot be read.
    """
    if good.tiles is None:
        return ""
    method = METHODS.find(detector).from_settings(settings, pretrained=False)
    shape = load_image(good.find()[0], keep_depth=True).shape
    spec, _ = good.with_tiles(method.preprocessing, [shape[:2]])
    assert spec.tiles is not None
    (height, width), count = spec.tiles.size, len(inputs_of(spec, shape))
    return (
        f"{count} tiles of {width} x {height} pixels, seen at {spec.image_size[1]} x {spec.image_size[0]}: about "
        f"{count * method.network_ms():.0f} ms a frame on one core of this machine, and the scores"
    )
