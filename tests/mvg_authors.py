"""What the authors' code of Gaussian-AD computes from features that are drawn by their names.

`python tests/mvg_authors.py CODE OUT` writes the fixture, with CODE a copy of ORippler/gaussian-ad-mvtec. Its network,
its data and Lightning stand in: features are handed to `compute_train_statistics` and `test_step`.
"""

from __future__ import annotations

import collections
import collections.abc
import sys
import types
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from authors import numbers
from torch import Tensor

GOOD, QUERIES, FEW = 24, 5, 9
VARIANCE = 0.9
LEVELS = (("level0", 12, 3), ("level1", 20, 2))
"""Name, channels, side."""


def level(name: str, channels: int, side: int) -> Tensor:
    """Correlated features, float32 (n, d, h, w), of a decaying spectrum."""
    mix = numbers(f"{name}.mix", (channels, channels)) * 0.85 ** np.arange(channels)[:, None]
    features = np.einsum("ndyx,dc->ncyx", numbers(name, (GOOD + QUERIES, channels, side, side)), mix)
    return torch.from_numpy(features + numbers(f"{name}.mean", (channels, 1, 1))).float()


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    theirs = _import_model(code)
    found: dict[str, Any] = {}
    for reduction in ("none", "pca", "npca"):
        model, distances, score = _run(theirs, reduction, GOOD)
        found |= {f"{reduction}_distances": distances, f"{reduction}_score": score}
        for i, (mean, precision) in enumerate(zip(model.mvg_mean, model.mvg_inv_covariance, strict=True)):
            if reduction == "none":
                found |= {f"mean{i}": mean.numpy(), f"precision{i}": precision.numpy()}
            found[f"{reduction}_components{i}"] = np.array(len(mean))
    found["few_distances"] = _run(theirs, "none", FEW)[1]
    threshold = theirs.Mahalanobis.compute_mahalanobis_threshold
    found["thresholds"] = np.array([[float(threshold(k, p)) for k in (1, 12, 272)] for p in (0.95, 0.9973)])
    np.savez_compressed(out, **found)


def _run(theirs: Any, reduction: str, good: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Fit to so many images; the model, and of the queries the distances of levels and their mean."""
    features = [level(*shape) for shape in LEVELS]
    model = theirs.Mahalanobis.__new__(theirs.Mahalanobis)
    flags = {"pca": reduction == "pca", "npca": reduction == "npca", "ocsvm": False, "sed": False, "l2": False}
    model.hparams = SimpleNamespace(**flags, variance_threshold=VARIANCE, batch_size=good)
    model.normalization_epochs, model._device, model.statistics_computed = 1, torch.device("cpu"), False
    model.datasplit = SimpleNamespace(train=lambda: [{"image": torch.arange(good)}])
    model.model = lambda chosen: theirs.TensorList([x[chosen] for x in features])
    model.test_saver = MagicMock()
    queries = torch.arange(GOOD, GOOD + QUERIES)
    found = model.test_step({"image": queries, "target": queries, "mask": queries}, 0)
    score = model.test_saver.update.call_args.args[2]
    return model, torch.stack(list(found["maha"])).numpy(), score.numpy()


def _import_model(code: str) -> types.ModuleType:
    """Import their model with nothing behind what draws, reads and trains; `collections` was larger in its day."""
    sys.path.insert(0, code)
    vars(collections).update(Iterable=collections.abc.Iterable, MutableMapping=collections.abc.MutableMapping)
    here = ("common.augmentation", "common.dataset", "common.evaluation", "gaussian.transparent")
    others = ("albumentations", "albumentations.pytorch", "albumentations.pytorch.transforms", "pytorch_lightning")
    for name in (*others, *(f"src.{part}" for part in here)):
        sys.modules[name] = MagicMock()
    lightning: Any = types.ModuleType("pytorch_lightning")
    lightning.LightningModule = type("LightningModule", (), {"__call__": lambda self, x: self.forward(x)})
    lightning.data_loader = lambda method: method
    sys.modules["pytorch_lightning"] = lightning
    import src.gaussian.model as theirs

    theirs.DataLoader = lambda batches, **_: batches
    return theirs


if __name__ == "__main__":
    main(*sys.argv[1:])
