"""Detectors from words that are small enough for a test, with the weights that public code was run with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import words_authors as authors
from authors import authors_numbers

from edgead_foundation.anomaly_clip.detector import AnomalyClip, AnomalyClipConfig
from edgead_foundation.backbones import files as tower_files
from edgead_foundation.backbones import networks as tower_networks
from edgead_foundation.backbones import towers
from edgead_foundation.backbones.names import TOWERS
from edgead_foundation.clip.words import WordsMethod
from edgead_foundation.crane.detector import Crane, CraneConfig

THEIRS = authors_numbers("words")
REAL = {
    "anomaly_clip": "clip_vitb16",
    "crane": "clip_vitb16",
    "crane_plus": "clip_vitl14",
}
OPENCLIP = "openclip_vitb16"
DINO = "dinov2_vitb14_reg"
# Crane's code adds to what it has kept of earlier blocks: all of its layers are the last one.
BLOCKS = {
    "anomaly_clip": authors.LAYERS,
    "crane": authors.CRANE_LAYERS[-1:],
    "crane_plus": authors.PLUS_LAYERS,
}
SMALL = {
    REAL["crane"]: replace(TOWERS[REAL["crane"]], side=authors.SIDE, **authors.ANOMALY_CLIP),
    OPENCLIP: replace(TOWERS[OPENCLIP], side=authors.SIDE, **authors.ANOMALY_CLIP),
    REAL["crane_plus"]: replace(TOWERS[REAL["crane_plus"]], side=authors.PLUS_SIDE, **authors.ANOMALY_CLIP),
    DINO: replace(TOWERS[DINO], side=authors.PLUS_LARGER, **authors.DINO),
}
_CREATE = tower_networks.create


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let the towers of `SMALL` be small, and embeddings of Crane+ as wide as a token of its text."""

    def create(tower: Any, *arguments: Any, **options: Any) -> torch.nn.Module:
        network: Any = _CREATE(tower, *arguments, **options)
        if tower is SMALL[REAL["crane_plus"]]:
            network.num_classes = authors.EMBEDDED["crane_plus"]
            network.head = torch.nn.Linear(tower.width, network.num_classes)
        return network

    for name, tower in SMALL.items():
        patch.setitem(TOWERS, name, tower)
    for module in (towers, tower_files):
        patch.setattr(module, "create", create)


@pytest.fixture(scope="module", autouse=True)
def small_towers() -> Iterator[None]:
    """Of every test file that imports this, all tests have them."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield


def clip_state(method: str) -> dict[str, torch.Tensor]:
    """A whole CLIP, by OpenAI's names."""
    return authors.draw_state(THEIRS[f"{method}/names"], THEIRS[f"{method}/shapes"])


def build(folder: Path, method: str, **changed: Any) -> WordsMethod[Any]:
    """A detector as its public code was run, from files of the weights; some settings changed.

    `small_towers` comes before it; `fixture` of what it gives names the numbers.
    """
    found = _build(folder, method, changed)
    vars(found)["fixture"] = method
    return found


def _build(folder: Path, method: str, changed: dict[str, Any]) -> WordsMethod[Any]:
    clip, prompts = folder / f"{method}.pth", folder / "epoch_15.pth"
    if not clip.exists():
        torch.save(clip_state(method), clip)
    if not prompts.exists():
        torch.save({"prompt_learner": {**authors.draw_prompts(), "token_prefix_pos": torch.zeros(1)}}, prompts)
    settings = {
        "backbone": REAL[method],
        "image_size": (authors.LARGER, authors.LARGER),
        "layers": tuple(f"block{number}" for number in BLOCKS[method]),
        "refined_blocks": authors.REFINED,
        "prompts": str(prompts),
    }
    if method == "crane_plus":
        settings |= {
            "image_size": (authors.PLUS_LARGER, authors.PLUS_LARGER),
            "dino": DINO,
            "dino_weights": str(_dino_file(folder)),
            "mean_of": "logits",
            "map_weight": 2.0,
        }
    if method.startswith("crane"):
        return Crane(CraneConfig(**{**settings, **changed}), weights=clip)
    return AnomalyClip(AnomalyClipConfig(**{**settings, **changed}), weights=clip)


def _dino_file(folder: Path) -> Path:
    file = folder / "dinov2.pth"
    if not file.exists():
        torch.save(authors.draw_dino(THEIRS["crane_plus/dino_names"], THEIRS["crane_plus/dino_shapes"]), file)
    return file


@torch.inference_mode()
def difference(method: WordsMethod[Any]) -> float:
    """How far maps and image scores are from those of the public code, in parts of the largest number."""
    name: str = vars(method)["fixture"]
    side = method.preprocessing.image_size[0]
    outputs = method.network(torch.from_numpy(authors.draw_images(side)))
    scored = [_reference(method, *each) for each in zip(*outputs, strict=True)]
    found = {
        "image_scores": np.array([score for score, _ in scored]),
        "maps": np.stack([anomaly_map for _, anomaly_map in scored])[:, :: authors.STRIDE, :: authors.STRIDE],
    }
    return max(relative(found[each], THEIRS[f"{name}/{each}"]) for each in found)


def relative(found: Any, theirs: np.ndarray) -> float:
    """The largest difference, in parts of the largest number."""
    return float(np.abs(np.asarray(found) - theirs).max() / np.abs(theirs).max())


def _reference(method: WordsMethod[Any], *outputs: torch.Tensor) -> tuple[float, np.ndarray]:
    names: Iterable[str] = (output.name for output in method.head.outputs)
    arrays = {name: each.double().numpy() for name, each in zip(names, outputs, strict=True)}
    return method.head.reference(arrays, {}, method.preprocessing.image_size)
