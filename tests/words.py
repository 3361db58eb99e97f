"""Detectors from words that are small enough for a test, with the weights that public code was run with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import words_authors as authors
from authors import authors_numbers

from edgead.methods.anomaly_clip import AnomalyClip, AnomalyClipConfig
from edgead.methods.crane import Crane, CraneConfig
from edgead.methods.tower_names import TOWERS
from edgead.methods.winclip import WinClip, WinClipConfig
from edgead.methods.words import WordsMethod

THEIRS = authors_numbers("words")
REAL = {"winclip": "openclip_vitb16_plus", "anomaly_clip": "clip_vitb16", "crane": "clip_vitb16"}
SIZES = {"winclip": authors.WINCLIP, "anomaly_clip": authors.ANOMALY_CLIP, "crane": authors.ANOMALY_CLIP}
# Crane's code adds to what it has kept of earlier blocks: all of its layers are the last one.
BLOCKS = {"anomaly_clip": authors.LAYERS, "crane": authors.CRANE_LAYERS[-1:]}
SMALL = {name: replace(TOWERS[name], side=authors.SIDE, **SIZES[method]) for method, name in REAL.items()}


def clip_state(method: str) -> dict[str, torch.Tensor]:
    """A whole CLIP, by OpenAI's names."""
    return authors.draw_state(THEIRS[f"{method}/names"], THEIRS[f"{method}/shapes"])


def build(folder: Path, method: str, **changed: Any) -> WordsMethod[Any]:
    """A detector as its public code was run, from files of the weights; some settings changed.

    TOWERS has to have `SMALL`.
    """
    clip, prompts = folder / f"{method}.pth", folder / "epoch_15.pth"
    if not clip.exists():
        torch.save(clip_state(method), clip)
    if method == "winclip":
        settings = {
            "image_size": (authors.SIDE, authors.SIDE),
            "part": authors.PART,
            "templates": tuple(THEIRS["winclip/templates"].tolist()),
            "temperature": authors.TEMPERATURE,
        }
        return WinClip(WinClipConfig(**{**settings, **changed}), weights=clip)
    if not prompts.exists():
        torch.save({"prompt_learner": {**authors.draw_prompts(), "token_prefix_pos": torch.zeros(1)}}, prompts)
    settings = {
        "backbone": REAL[method],
        "image_size": (authors.LARGER, authors.LARGER),
        "layers": tuple(f"block{number}" for number in BLOCKS[method]),
        "refined_blocks": authors.REFINED,
        "prompts": str(prompts),
    }
    if method == "crane":
        return Crane(CraneConfig(**{**settings, **changed}), weights=clip)
    return AnomalyClip(AnomalyClipConfig(**{**settings, **changed}), weights=clip)


@torch.inference_mode()
def difference(method: WordsMethod[Any]) -> float:
    """How far maps and image scores are from those of the public code, in parts of the largest number."""
    side = method.preprocessing.image_size[0]
    outputs = method.network(torch.from_numpy(authors.draw_images(side)))
    scored = [_reference(method, *each) for each in zip(*outputs, strict=True)]
    found = {
        "image_scores": np.array([score for score, _ in scored]),
        "maps": np.stack([anomaly_map for _, anomaly_map in scored])[:, :: authors.STRIDE, :: authors.STRIDE],
    }
    return max(relative(found[name], THEIRS[f"{method.name}/{name}"]) for name in found)


def relative(found: Any, theirs: np.ndarray) -> float:
    """The largest difference, in parts of the largest number."""
    return float(np.abs(np.asarray(found) - theirs).max() / np.abs(theirs).max())


def _reference(method: WordsMethod[Any], *outputs: torch.Tensor) -> tuple[float, np.ndarray]:
    names: Iterable[str] = (output.name for output in method.head.outputs)
    arrays = {name: each.double().numpy() for name, each in zip(names, outputs, strict=True)}
    return method.head.reference(arrays, {}, method.preprocessing.image_size)
