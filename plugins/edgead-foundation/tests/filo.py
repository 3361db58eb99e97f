"""FiLo that is small enough for a test, with the weights that the authors' code was run with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filo_authors as authors
import numpy as np
import pytest
import torch
from authors import authors_numbers

from edgead_foundation.backbones import files as tower_files
from edgead_foundation.backbones import networks as tower_networks
from edgead_foundation.backbones import towers
from edgead_foundation.backbones.names import TOWERS
from edgead_foundation.clip import clip_text
from edgead_foundation.filo.detector import Filo, FiloConfig

THEIRS = authors_numbers("filo")
BACKBONE = "clip_vitb16"
SMALL = replace(TOWERS[BACKBONE], side=authors.SIDE, width=authors.WIDTH, depth=authors.DEPTH, heads=authors.HEADS)
DETAILS = dict(zip(authors.PRODUCTS, (tuple(each.split("|")) for each in THEIRS["details"].tolist()), strict=True))
_CREATE = tower_networks.create


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let the tower be small, its embeddings as wide as a token of its text, and an untrained text tower as deep."""

    def create(tower: Any, *arguments: Any, **options: Any) -> torch.nn.Module:
        network: Any = _CREATE(tower, *arguments, **options)
        if tower is SMALL:
            network.num_classes = authors.EMBEDDED
            network.head = torch.nn.Linear(tower.width, network.num_classes)
        return network

    patch.setitem(TOWERS, BACKBONE, SMALL)
    patch.setattr(clip_text, "DEPTH", authors.TEXT_DEPTH)
    for module in (towers, tower_files):
        patch.setattr(module, "create", create)


@pytest.fixture(scope="module", autouse=True)
def small_towers() -> Iterator[None]:
    """Of every test file that imports this, all tests have them."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield


def clip_file(folder: Path) -> Path:
    """A whole CLIP, by OpenAI's names."""
    file = folder / "clip.pth"
    if not file.exists():
        torch.save(authors.draw_state(THEIRS["names"].tolist(), THEIRS["shapes"].tolist()), file)
    return file


def learnt_file(folder: Path) -> Path:
    """What the authors' code has learnt, beside other entries of its checkpoints."""
    file = folder / "filo_train_on_mvtec.pth"
    if not file.exists():
        learnt = authors.draw_state(THEIRS["learnt_names"].tolist(), THEIRS["learnt_shapes"].tolist())
        torch.save({"filo": {**learnt, "clip_model.logit_scale": torch.zeros(())}}, file)
    return file


def build(folder: Path, **changed: Any) -> Filo:
    """The detector as the authors' code was run, from files of the weights; `small_towers` comes before it."""
    settings = {
        "backbone": BACKBONE,
        "image_size": (authors.LARGER, authors.LARGER),
        "layers": tuple(f"block{number}" for number in authors.LAYERS),
        "part": authors.PRODUCTS[0],
        "details": DETAILS[authors.PRODUCTS[0]],
        "prompts": str(learnt_file(folder)),
    }
    return Filo(FiloConfig(**{**settings, **changed}), weights=clip_file(folder))


@torch.inference_mode()
def difference(method: Filo, theirs: str = "all") -> float:
    """How far maps and image scores are from those of the authors' code, in parts of the largest number."""
    maps, scores = method.network(torch.from_numpy(authors.draw_images()))
    found = {"image_scores": scores.numpy(), "maps": maps.numpy()[:, :: authors.STRIDE, :: authors.STRIDE]}
    return max(relative(found[each], THEIRS[f"{theirs}/{each}"]) for each in found)


def relative(found: Any, theirs: np.ndarray) -> float:
    """The largest difference, in parts of the largest number."""
    return float(np.abs(np.asarray(found) - theirs).max() / np.abs(theirs).max())
