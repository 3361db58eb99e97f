"""Preset `auto`: settings of patchcore that fit given images and this machine.

The network's input keeps the proportions of the images and has as many pixels as the latency allows on this machine;
no defect is needed to choose so. `python -m benchmarks panel` measures the list on parts that nobody tuned for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.adapt.frozen_backbone import OUTPUT, open_raw
from edgead.adapt.methods.method import AUTO
from edgead.adapt.methods.patchcore import PatchCore
from edgead.adapt.training.good_images import find_proportions, keep_proportions
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.kernels import NearestPatches

LATENCY_MS = 15.0
TIME = "time networks"
# Backbone, and the side of a square with as many pixels; the most accurate first.
LADDER = (
    ("efficientnet_lite2", 448),
    ("efficientnet_lite2", 384),
    ("efficientnet_lite2", 320),
    ("efficientnet_lite0", 320),
    ("efficientnet_lite0", 256),
    ("efficientnet_lite0", 224),
)
SEARCHES, NETWORK_RUNS = 7, 15
# A machine on which a frame of `default` takes longer is a small device: it has `fast`.
SUITED_MS = 100.0


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
        height, width = settings["image_size"]
        took_ms = frame_ms(settings)
        progress(TIME, tried, len(LADDER))
        if took_ms <= latency_ms:
            progress(TIME, len(LADDER), len(LADDER))
            account = (
                f"{backbone} at {width} x {height} px ({proportions.reason}): about {took_ms:.1f} ms a frame on "
                f"this machine, {latency_ms:g} allowed"
            )
            return AutoChoice(settings, took_ms, account)
    raise SettingsError(
        f"nothing keeps within {latency_ms:g} ms on this machine: the fastest, {backbone} at {width} x {height} px, "
        f"takes about {took_ms:.1f} ms; allow more with --latency-ms"
    )


def frame_ms(settings: dict[str, Any]) -> float:
    """Median time in ms of the network on the runtime that `auto` opens, and of a search of its patches.

    The search is of random numbers, the slowest case for the kernel.
    """
    model = PatchCore.from_settings(settings)
    model.choose_precision(AUTO, 0, cross_validates=False)
    width = sum(model.backbone.channels)
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((model.config.memory_bank_size, width), np.float32)
    with open_raw(model.backbone, model.preprocessing, "auto") as engine:
        _, rows, columns, _ = engine.run(engine.input)[OUTPUT].shape
        took_ms = _median_ms(lambda: engine.run(engine.input), NETWORK_RUNS)
    patches = rng.standard_normal((rows * columns, width), np.float32)
    nearest = NearestPatches(bank)
    return took_ms + _median_ms(lambda: nearest.search(patches), SEARCHES)


def _median_ms(run: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(times))


def suited_preset() -> str:
    """Choose between the presets `default` and `fast` by the time of a frame of `default` on this machine."""
    return "default" if frame_ms({}) <= SUITED_MS else "fast"
