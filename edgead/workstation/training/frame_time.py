"""Estimated time of a frame, before anything is learnt."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from edgead.artifact.preprocess import inputs_of
from edgead.images.files import load_image
from edgead.workstation.methods import METHODS
from edgead.workstation.methods.method import Method
from edgead.workstation.trainer.device import use_cores
from edgead.workstation.training.good_images import GoodImages


def network_ms(detector: str, settings: Mapping[str, Any]) -> float:
    """Time one frame through a detector's untrained network, ms, in torch on one core of this machine.

    The exported graph takes about as long; the scores and the map come on top of it.

    Raises
    ------
    SettingsError
        Settings that cannot be.
    """
    return _timed_ms(METHODS.find(detector).from_settings(settings, pretrained=False))


def tiles_account(good: GoodImages, detector: str, settings: Mapping[str, Any]) -> str:
    """Say into how many tiles the first of the images is cut, and about what that takes; empty without tiles.

    Raises
    ------
    SettingsError
        Settings that cannot be, or tiles that do not fit.
    DatasetError, ImageError
        There are no images, or the first cannot be read.
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
        f"{count * _timed_ms(method):.0f} ms a frame on one core of this machine, and the scores"
    )


def _timed_ms(method: Method[Any]) -> float:
    """Time the second of two runs: the first prepares what all others use.

    It is the CPU time of one thread: where others keep the machine busy, several threads spend most of theirs waiting
    for each other, and the clock runs on.
    """
    use_cores(1)
    image = torch.zeros(1, *method.preprocessing.image_size, 3, dtype=torch.uint8)
    network = method.network.eval()
    with torch.inference_mode():
        network(image)
        started = time.thread_time_ns()
        network(image)
        took_ns = time.thread_time_ns() - started
    use_cores()
    return took_ns / 1e6
