"""Estimate of a training's time on this machine, from a trial step that changes nothing."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from edgead_foundation.anomaly_ncd.training import Material, Objective, Plan, lose

_FEW = 4
_SOON_S = 1.0


def estimate_seconds(encoder: nn.Module, heads: nn.Module, material: Material, plan: Plan) -> float:
    """Estimate the seconds that `train` will take; network and torch's generator are unchanged afterwards."""
    network = nn.ModuleDict({"encoder": encoder, "heads": heads}).eval()  # keeps the statistics
    objective = Objective(plan, int(material.labels.max()) + 1)
    crops = plan.epochs * len(material)
    with torch.random.fork_rng():
        few = _time_step(network, objective, material, _FEW) / _FEW
        if few * plan.batch_size > _SOON_S * _FEW:
            return crops * few
        # A quick first step is mostly warm-up, so a second one is timed.
        return crops * _time_step(network, objective, material, plan.batch_size) / plan.batch_size


def _time_step(network: nn.ModuleDict, objective: Objective, material: Material, count: int) -> float:
    # From both ends, as labelled crops follow the others.
    chosen = np.linspace(0, len(material) - 1, count).astype(int)
    device = next(network.parameters()).device
    start = time.perf_counter_ns()
    lose(network, objective, material, chosen, 0)[0].backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    network.zero_grad(set_to_none=True)
    return (time.perf_counter_ns() - start) / 1e9
