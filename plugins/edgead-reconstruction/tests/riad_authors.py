"""Numbers of RIAD: what its public code computes from images drawn by their names; EAR's first author has it.

`python plugins/edgead-reconstruction/tests/riad_authors.py LOSSES OUT`, with the repository's `tests` on PYTHONPATH,
writes the fixture. LOSSES is `source/losses.py` of YeongHyeon/RIAD-PyTorch (MIT License), of which one class is run:
the file imports packages for the others.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from authors import numbers
from torch import Tensor, nn

SHAPE = (2, 3, 32, 48)
SCALES = 4
"""Of the paper; the class has 3 by default."""


def unit(name: str) -> Tensor:
    """Images in 0..1, float64."""
    return torch.from_numpy(1 / (1 + np.exp(-numbers(name, SHAPE))))


def main(losses: str, out: str) -> None:
    """Run the class and write its numbers."""
    tree = ast.parse(Path(losses).read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "MSGMSLoss"]
    space: dict[str, Any] = {"torch": torch, "F": F, "Tensor": Tensor, "Module": nn.Module, "Tuple": tuple}
    exec(compile(tree, losses, "exec"), space)
    measure = space["MSGMSLoss"](num_scales=SCALES).double()
    measure.prewitt_x, measure.prewitt_y = measure.prewitt_x.double(), measure.prewitt_y.double()
    a, b = unit("image"), unit("rebuilt")
    found = measure(a, b, as_loss=False)[:, 0]
    np.savez_compressed(out, map=found[:, ::3, ::3].numpy(), loss=measure(a, b).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
