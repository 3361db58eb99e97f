"""Time of a training on this machine, from a step of it that changes nothing."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from edgead_foundation.anomaly_ncd.training import Material, Objective, Plan, lose

_FEW = 4
_SOON_S = 1.0


def estimate_seconds(encoder: nn.Module, heads: nn.Module, material: Material, plan: Plan) -> float:
    """Estimate what `train` will take; neither network nor torch's generator is another one afterwards."""
    network = nn.ModuleDict({"encoder": encoder, "heads": heads}).eval()  # statistics count in training alone
    objective = Objective(plan, int(material.labels.max()) + 1)
    crops = plan.epochs * len(material)
    with torch.random.fork_rng():
        few = _time_step(network, objective, material, _FEW) / _FEW
        if few * plan.batch_size > _SOON_S * _FEW:
            return crops * few
        # The first step warmed up what a quick one is short against.
        return crops * _time_step(network, objective, material, plan.batch_size) / plan.batch_size


def _time_step(network: nn.ModuleDict, objective: Objective, material: Material, count: int) -> float:
    # From both ends, as those with a label stand behind the others.
    chosen = np.linspace(0, len(material) - 1, count).astype(int)
    device = next(network.parameters()).device
    start = time.perf_counter_ns()
    lose(network, objective, material, chosen, 0)[0].backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    network.zero_grad(set_to_none=True)
    return (time.perf_counter_ns() - start) / 1e9
