"""Settings of a preset for given images, and those that fit images and this machine: `edgead train --preset auto`.

The network's input keeps the proportions of the images and has as many pixels as the latency allows on this machine;
no defect is needed to choose so. `python -m benchmarks panel` measures the list on parts that nobody tuned for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.kernels import NearestPatches
from edgead.workstation.backbones.pretrained import BACKBONES, find_added
from edgead.workstation.methods import METHODS, find_preset
from edgead.workstation.methods.patchcore.detector import PatchCore
from edgead.workstation.training.good_images import STEP_PX, GoodImages, find_proportions, keep_proportions
from edgead.workstation.tune import AUTO, AUTO_DETECTOR
from edgead.workstation.tune.finalists import network_ms
from edgead.workstation.tune.space import Candidate

LATENCY_MS = 15.0
# Backbone, and the side of a square with as many pixels; the most accurate first.
LADDER = (
    ("efficientnet_lite2", 448),
    ("efficientnet_lite2", 384),
    ("efficientnet_lite2", 320),
    ("efficientnet_lite0", 320),
    ("efficientnet_lite0", 256),
    ("efficientnet_lite0", 224),
)
SEARCHES = 7
# Tiles give a hundred times the patches of whole images: the bank is chosen from fewer, or it would take an hour.
TILED_MAX_PATCHES = 500_000


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """The chosen settings of patchcore, their frame time here as estimated, and the reasons in words."""

    settings: dict[str, Any]
    frame_ms: float
    account: str


def choose_settings(
    paths: Sequence[Path],
    latency_ms: float = LATENCY_MS,
    *,
    roi: tuple[int, int, int, int] | None = None,
    progress: StageProgress = no_progress,
) -> AutoChoice:
    """Look at good images and time networks on this machine.

    Parameters
    ----------
    paths : sequence of Path
        Good images.
    latency_ms : float
        Budget of network and search, which are nearly all of a frame.
    roi : (int, int, int, int), optional
        x, y, width and height of the region that is looked at: its proportions count then.
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    SettingsError
        Nothing keeps within the budget here; says what the fastest takes.
    """
    if not latency_ms > 0:
        raise SettingsError(f"a latency is above 0 ms, found {latency_ms:g}")
    proportions = find_proportions(paths, roi)
    for tried, (backbone, side) in enumerate(LADDER, 1):
        settings = keep_proportions({"backbone": backbone, "image_size": [side, side]}, proportions)
        size = settings["image_size"]
        took_ms = frame_ms(settings)
        progress("time networks", tried, len(LADDER))
        if took_ms <= latency_ms:
            progress("time networks", len(LADDER), len(LADDER))
            account = (
                f"{backbone} at {size[0]} x {size[1]} px ({proportions.reason}): about {took_ms:.1f} ms a frame on "
                f"this machine, {latency_ms:g} allowed"
            )
            return AutoChoice(settings, took_ms, account)
    raise SettingsError(
        f"nothing keeps within {latency_ms:g} ms on this machine: the fastest, {backbone} at {size[0]} x {size[1]} px, "
        f"takes about {took_ms:.1f} ms; allow more with --latency-ms"
    )


def frame_ms(settings: dict[str, Any]) -> float:
    """Median time in ms of the network on the runtime that `auto` opens, and of a search of its patches.

    The search is of random numbers, the slowest case for the kernel.
    """
    candidate = Candidate("patchcore", settings)
    model = PatchCore.from_settings(settings, pretrained=False)
    width = model.network.mean.numel()
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((model.config.memory_bank_size, width), np.float32)
    patches = rng.standard_normal((math.prod(model.grid), width), np.float32)
    nearest = NearestPatches(bank)
    times = []
    for _ in range(SEARCHES):
        started = time.perf_counter_ns()
        nearest.search(patches)
        times.append((time.perf_counter_ns() - started) / 1e6)
    return network_ms(candidate, "auto") + float(np.median(times))


def preset_settings(
    good: GoodImages,
    detector: str,
    preset: str,
    latency_ms: float | None,
    progress: StageProgress,
    chosen: Mapping[str, Any] = {},
) -> tuple[dict[str, Any], str]:
    """Settings of a preset in the proportions of the images; of `auto`, for this machine; and why in words.

    `chosen` are settings that come on top of them: where they ask for another network than the preset's, no input size
    is fitted.

    Raises
    ------
    SettingsError
        An unknown detector or preset, a latency without the preset `auto`, or that with tiles.
    """
    if preset == AUTO:
        if detector != AUTO_DETECTOR:
            raise SettingsError(f"--preset {AUTO} is of {AUTO_DETECTOR}; {detector} has presets of its own")
        if good.tiles is not None:
            raise SettingsError(f"--preset {AUTO} searches for whole images: name another preset, or leave out --tiles")
        paths = good.find()
        budget_ms = LATENCY_MS if latency_ms is None else latency_ms
        choice = choose_settings(paths, budget_ms, roi=good.roi, progress=progress)
        return choice.settings, choice.account
    if latency_ms is not None:
        raise SettingsError("--latency-ms belongs to --preset auto; `edgead tune` searches within a budget")
    settings = find_preset(detector, preset)
    method = METHODS.find(detector)
    variant = method.variant(settings)
    config = variant.config_class(**settings)
    if method.variant({**settings, **chosen}) is not variant or not hasattr(config, "fill"):
        return settings, ""
    if good.tiles is not None:
        height, width = config.image_size
        bounded = {"max_patches": TILED_MAX_PATCHES} if hasattr(config, "max_patches") else {}
        return {**settings, **bounded, "image_size": [height, width]}, f"{height} x {width} px a tile"
    proportions = find_proportions(good.find(), good.roi)
    added = find_added(chosen.get("backbone", config.backbone), BACKBONES)
    step = added.patch if added else STEP_PX
    fitted = keep_proportions({**settings, "image_size": list(config.image_size)}, proportions, step)
    height, width = fitted["image_size"]
    return fitted, f"{height} x {width} px ({proportions.reason})"
