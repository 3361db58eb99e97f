"""What the authors' code of CS-Flow computes from weights and maps that are drawn by their names.

`python tests/cs_flow_authors.py CODE OUT` writes the fixture, with CODE a copy of marco-rudolph/cs-flow. The backbone
that it imports counts for nothing here and stands in.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import torch
from authors import numbers, weight
from torch import Tensor, nn

CHANNELS, HIDDEN = 7, 6
SIDES = [(8, 12), (4, 6), (2, 3)]
STEPS, RATE = 4, 0.01


def draw_maps() -> list[Tensor]:
    """Features of three scales, float64 (n, d, h, w)."""
    return [torch.from_numpy(numbers(f"scale{i}", (3, CHANNELS, *sides))) for i, sides in enumerate(SIDES)]


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    sys.path.insert(0, code)
    sys.modules["efficientnet_pytorch"] = types.ModuleType("efficientnet_pytorch")
    vars(sys.modules["efficientnet_pytorch"])["EfficientNet"] = None
    import config
    import model as theirs
    import utils

    config.fc_internal, config.map_size = HIDDEN, SIDES[0]
    model = theirs.get_cs_flow_model(CHANNELS).double()
    state = {name: torch.from_numpy(np.asarray(weight(name, tuple(x.shape)))) for name, x in model.state_dict().items()}
    model.load_state_dict(state)
    maps = draw_maps()

    def forward() -> tuple[list[Tensor], list[Tensor], Tensor]:
        z, jacobian = theirs.nf_forward(model, maps)
        return z, jacobian, utils.get_loss(z, jacobian)

    def score(z: list[Tensor]) -> np.ndarray:
        return np.mean(utils.t2np(utils.concat_maps(z)) ** 2 / 2, axis=(1, 2))

    with torch.no_grad():
        z, jacobian, loss = forward()
    found = {f"z{i}": x.numpy() for i, x in enumerate(z)}
    permutes = [module for module in model.modules() if type(module).__name__ == "ParallelPermute"]
    found |= {
        "log_determinant": torch.stack(list(jacobian)).numpy(),
        "loss": loss.numpy(),
        "score": score(z),
        "map": torch.mean(z[0] ** 2, dim=1).numpy(),
        "orders": np.array([[order.numpy() for order in module.perm] for module in permutes], np.int16),
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, eps=1e-4, weight_decay=1e-5)  # as in train.py
    lost, norms = [], []
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = forward()[2]
        lost.append(float(loss.detach()))
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        z, _, loss = forward()
    found |= {"trained_score": score(z), "losses": np.array([*lost, float(loss)]), "gradient_norms": np.array(norms)}
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
