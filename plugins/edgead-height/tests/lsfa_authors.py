"""Numbers of LSFA: what the authors' code computes from features and weights that are drawn by their names.

`python plugins/edgead-height/tests/lsfa_authors.py CODE OUT`, with the repository's `tests` on PYTHONPATH, writes the
fixture. CODE is the folder `Adaptation` of a copy of yuanpengtu/LSFA, which has no licence: nothing of it is here.
Four classes and a function of it are run; `corrected` says what of them could not run.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from authors import numbers

COLOUR, HEIGHT = 768, 1152
IMAGES, PATCHES, FULL = 2, 12, 100
"""The authors' code calls a bank full that has 100 rows fewer than its size, which is 100 more here."""
PARTS = 5


def features() -> dict[str, np.ndarray]:
    """Features of both modalities and of turned images; the last three patches of the last image show no part.

    Of colour the first one is the class token, as in the authors' code.
    """
    found = {
        "colour": numbers("colour", (IMAGES, 1 + PATCHES, COLOUR)),
        "height": numbers("height", (IMAGES, PATCHES, HEIGHT)),
        "turned": numbers("turned", (IMAGES, PATCHES, COLOUR)),
    }
    found["height"][-1, 9:] = 0
    return found


def bank_rows() -> dict[str, np.ndarray]:
    """What lies in the banks, near enough to the adapted features that no distance is cut off."""
    sizes = {
        "colour": (FULL, COLOUR),
        "height": (FULL, HEIGHT),
        "colour_parts": (PARTS, COLOUR),
        "height_parts": (PARTS, HEIGHT),
    }
    return {name: 0.1 * numbers(f"bank of {name}", size) for name, size in sizes.items()}


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight by its name in the authors' code; small, so that features stay near those of the banks."""
    if "norm" in name:
        return 1 + 0.1 * numbers(name, shape) if name.endswith("weight") else 0.1 * numbers(name, shape)
    small = 0.03 if "proj." in name or "fc2." in name else 1.0
    return numbers(name, shape) * small * (0.1 if len(shape) == 1 else shape[1] ** -0.5)


SCALE = 0.05
"""Of all features, so that squared distances lie below the 50 that the authors' code cuts at."""


def corrected(tree: ast.Module) -> ast.Module:
    """Give the projection of whole parts' heights these, where it is given colours, whose shape does not fit."""

    class Correct(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            text = ast.unparse(node)
            if text == "self.xyz_head(global_feat1.reshape(-1, 1152))":
                return ast.parse(text.replace("feat1", "feat2"), mode="eval").body
            return node

    return ast.fix_missing_locations(Correct().visit(tree))


def authors_classes(code: str) -> dict[str, Any]:
    """Run the definitions that are needed, without the imports of their files."""
    wanted = {
        "models/models.py": ("Mlp", "Attention", "Block"),
        "fusion_pretrain.py": ("euclidean_dist", "FeatureFusionBlock"),
    }
    space: dict[str, Any] = {"torch": torch, "nn": torch.nn, "np": np, "DropPath": None}
    space["NTXentLoss"] = lambda temperature: torch.nn.Identity()  # made, and never called
    for file, names in wanted.items():
        tree = ast.parse((Path(code) / file).read_text())
        tree.body = [
            node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in names
        ]
        exec(compile(corrected(tree), file, "exec"), space)
    return space


class WithoutToken(torch.nn.Module):
    """An adaptor that the class token, which no other backbone has, takes no part in."""

    def __init__(self, block: torch.nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == PATCHES:  # the turned image, which has none
            return self.block(x)
        return torch.cat([x[:, :1], self.block(x[:, 1:])], dim=1)


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[assignment,method-assign]
    torch.Tensor.float = torch.Tensor.double  # type: ignore[assignment,method-assign]
    space = authors_classes(code)
    found: dict[str, Any] = {}
    first, second = (torch.from_numpy(numbers(name, (7, 5))) for name in ("first", "second"))
    found["distances"] = space["euclidean_dist"](first, 3 * second).min(dim=1).values

    model = space["FeatureFusionBlock"]()
    state = {
        name: parameter(name, tuple(x.shape)) for name, x in model.state_dict().items() if not name.startswith("bn")
    }
    model.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()}, strict=False)
    given = {name: torch.from_numpy(SCALE * x) for name, x in features().items()}
    found["contrast"] = model.contrastive_loss(first, second)
    found["adapted_turned"] = model.rgb_mlp(given["turned"])[..., ::16]
    found["adapted_height"] = model.xyz_mlp(given["height"])[..., ::16]

    model.rgb_mlp = WithoutToken(model.rgb_mlp)
    torch.randperm = lambda count: torch.arange(count - 1, -1, -1)  # type: ignore[assignment]
    model.start_iteration, model.banksize = 1, FULL + 100
    rows = {name: list(torch.from_numpy(SCALE * x)) for name, x in bank_rows().items()}
    queues = model.queue_rgb, model.queue_point, model.queue_rgb_global, model.queue_point_global
    for queue, name in zip(queues, rows, strict=True):
        queue[0] = rows[name]
    labels = torch.zeros(IMAGES, dtype=torch.long)
    loss = model(given["height"], None, None, given["colour"], None, None, given["turned"], None, 0, labels)
    loss.backward()
    norms = {name.replace(".block.", "."): p.grad.norm() for name, p in model.named_parameters()}
    found |= {"loss": loss, "gradient_norms": np.array([float(norms[name]) for name in sorted(norms)])}
    for queue, name in zip(queues, rows, strict=True):
        size = len(bank_rows()[name])
        found[f"queued_{name}"] = torch.stack([row.flatten() for row in queue[0][size:]])[:, ::32]
    np.savez_compressed(out, **{name: x.detach().numpy() if torch.is_tensor(x) else x for name, x in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
