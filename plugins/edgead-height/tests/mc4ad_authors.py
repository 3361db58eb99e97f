"""Numbers of MC4AD: what the authors' code computes from points and weights that are drawn by their names.

`python plugins/edgead-height/tests/mc4ad_authors.py CODE OUT`, with the repository's `tests` on PYTHONPATH, writes the
fixture. CODE is the folder `code` of the archive in hzzzzzhappy/MC4AD (MIT licence). MinkowskiEngine and open3d, which
need CUDA and data, are replaced by empty modules: what is run does not use them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from authors import numbers, weight

POINTS, CROPS, PARTS = 480, 6, 12
SEED = 5
PUSHES = ((0.06, 0.0, 1.0), (0.1, 0.05, 0.97), (0.12, 0.08, 0.95))
"""Distance, attenuation and blend of each push; its axis and its sign are drawn after seed `SEED` and its number."""
FORCES = 50
CHANNELS = 32


def cloud() -> tuple[np.ndarray, np.ndarray]:
    """Points and their normals, (n, 3) each."""
    normals = numbers("normals", (POINTS, 3))
    return numbers("points", (POINTS, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True)


def forces() -> tuple[np.ndarray, np.ndarray]:
    """Internal and external force in one, (n, 6), and the true push, (n, 3), of which most are 0."""
    true = numbers("true", (FORCES, 3))
    true[10:] = 0
    return numbers("forces", (FORCES, 6)), true


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of the heads by its name in the authors' code; variances and scales are positive."""
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return 0.5 + np.abs(numbers(name, shape))
    if len(shape) == 2:  # a linear layer
        return 2 * numbers(name, shape) / np.sqrt(shape[1])
    return weight(name, shape)


def without_engine() -> None:
    """Put what needs CUDA or files out of the way of imports."""

    class Nothing(torch.nn.Module):
        def __init__(self, **_: Any):
            super().__init__()

    for name in ("MinkowskiEngine", "open3d", "network.Mink"):
        sys.modules[name] = ModuleType(name)
    engine = sys.modules["MinkowskiEngine"]
    engine.MinkowskiConvolution = engine.MinkowskiBatchNorm = type("Unused", (), {})  # type: ignore[attr-defined]
    sys.modules["network.Mink"].Mink_unet = Nothing  # type: ignore[attr-defined]
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[assignment,method-assign]


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    torch.set_default_dtype(torch.float64)
    without_engine()
    sys.path.insert(0, code)
    from datasets.AnomalyShapeNet import transform
    from datasets.AnomalyShapeNet.dataset_preprocess import Dataset
    from network.MC4AD import MC4AD, eval_fn, model_fn

    points, normals = cloud()
    np.random.seed(SEED)
    crop = transform.SphereCropMask(part_num=PARTS)
    cropped, centres = crop({"coord": points, "mask": -np.ones(POINTS)})
    found: dict[str, Any] = {"mask": cropped["mask"][:], "centres": np.concatenate(centres)}

    moved = []
    for number, (distance, attenuation, blend) in enumerate(PUSHES):
        np.random.seed(SEED + number)
        inside = cropped["mask"] == number
        made = Dataset.generate_pseudo_anomaly(
            None, points[inside], normals[inside], centres[number], distance, sigma=attenuation, lambda_val=blend
        )
        moved.append(made - points[inside])
    found["displacements"] = np.stack(moved)

    heads = MC4AD(3, CHANNELS)
    state = {name: parameter(name, tuple(x.shape)) for name, x in heads.state_dict().items()}
    heads.load_state_dict({name: torch.from_numpy(np.asarray(x)) for name, x in state.items()})
    heads.eval()
    features = torch.from_numpy(numbers("features", (FORCES, CHANNELS)))
    found["offsets"] = heads.linear_offset(features)

    drawn, true = (torch.from_numpy(x) for x in forces())
    drawn.requires_grad_()
    batch = dict.fromkeys(("xyz_voxel", "feat_voxel", "v2p_index", "batch_count"))
    batch["batch_offset"] = true

    class Given(torch.nn.Module):
        def forward(self, *_: Any) -> torch.Tensor:
            return drawn

        test_inference = forward

    class Config:
        batch_size = 1

    loss, *_ = model_fn(batch, Given(), Config())
    loss.backward()
    score, joint = eval_fn(batch, Given())
    found |= {"loss": loss, "gradient": drawn.grad, "score": score, "joint": joint}
    np.savez_compressed(out, **{name: x.detach().numpy() if torch.is_tensor(x) else x for name, x in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
