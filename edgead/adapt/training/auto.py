"""Preset `auto`: `default`, or `fast` if a frame of `default` takes too long on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgead.adapt.frozen_backbone import OUTPUT, open_raw
from edgead.adapt.methods.method import AUTO
from edgead.adapt.methods.patchcore import PatchCore
from edgead.kernels import NearestPatches

SEARCHES, NETWORK_RUNS = 7, 15
# Time of a frame of `default`, ms; slower machines are small devices and get `fast`.
SUITED_MS = 100.0


def frame_ms(settings: dict[str, Any]) -> float:
    """Measure the time in ms of the network, on the runtime that `auto` opens, plus the search of its patches.

    The shortest of several times is taken, as other programs lengthen it least: a busy machine gets the same preset.
    The patches are random numbers, the slowest case for the search.
    """
    model = PatchCore.from_settings(settings)
    model.choose_precision(AUTO, 0, cross_validates=False)
    width = sum(model.backbone.channels)
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((model.config.memory_bank_size, width), np.float32)
    with open_raw(model.backbone, model.preprocessing, "auto") as engine:
        _, rows, columns, _ = engine.run(engine.input)[OUTPUT].shape
        took_ms = _shortest_ms(lambda: engine.run(engine.input), NETWORK_RUNS)
    patches = rng.standard_normal((rows * columns, width), np.float32)
    nearest = NearestPatches(bank)
    return took_ms + _shortest_ms(lambda: nearest.search(patches), SEARCHES)


def _shortest_ms(run: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return min(times)


def suited_preset() -> str:
    """Return `default` or `fast`, by the time of a frame of `default` on this machine."""
    return "default" if frame_ms({}) <= SUITED_MS else "fast"
