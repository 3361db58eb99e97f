"""What a frame will cost, known before anything is learnt."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from edgead import kernels
from edgead.methods import METHODS


def network_ms(detector: str, settings: Mapping[str, Any]) -> float:
    """Time one frame through a detector's untrained network, ms, in torch on this machine's CPU.

    The exported graph takes about as long; the scores and the map come on top of it.

    Raises
    ------
    SettingsError
        Settings that cannot be.
    """
    torch.set_num_threads(kernels.threads())
    method = METHODS.find(detector).from_settings(settings, pretrained=False)
    image = torch.zeros(1, *method.preprocessing.image_size, 3, dtype=torch.uint8)
    started = time.perf_counter_ns()
    with torch.inference_mode():
        method.network.eval()(image)
    return (time.perf_counter_ns() - started) / 1e6
