"""Preset `auto`: settings of patchcore that fit given images and this machine.

The network's input keeps the proportions of the images and has as many pixels as the latency allows on this machine;
no defect is needed to choose so. `python -m benchmarks panel` measures the list on parts that nobody tuned for.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from edgead.export.graph import export_onnx

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Manifest
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.kernels import NearestPatches
from edgead.runtime import open_runtime
from edgead.workstation.methods.method import Method
from edgead.workstation.methods.patchcore.detector import PatchCore
from edgead.workstation.training.good_images import find_proportions, keep_proportions

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
    model = PatchCore.from_settings(settings, pretrained=False)
    width = model.network.mean.numel()
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((model.config.memory_bank_size, width), np.float32)
    patches = rng.standard_normal((math.prod(model.grid), width), np.float32)
    nearest = NearestPatches(bank)
    return network_ms(model, "auto") + _median_ms(lambda: nearest.search(patches), SEARCHES)


def network_ms(model: Method, runtime: str) -> float:
    """Median time in ms of the network of a method, untrained."""
    with tempfile.TemporaryDirectory(prefix="edgead-graph-") as work:
        manifest = Manifest.draft(model.name, model.preprocessing, model.head)
        export_onnx(model.network, Path(work) / "model.onnx", manifest)
        engine = open_runtime(Artifact(Path(work), manifest), runtime)
        found = _median_ms(lambda: engine.run(engine.input), NETWORK_RUNS)
        engine.close()
    return found


def _median_ms(run: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(times))
