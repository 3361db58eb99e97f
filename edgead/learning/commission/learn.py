"""Good images become the scale and the memory bank of a detector whose backbone is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgead import kernels
from edgead.artifact.folder import Artifact, write_arrays
from edgead.artifact.manifest import Manifest
from edgead.artifact.onnx_constants import with_properties
from edgead.dataset.folders import Progress, StageProgress
from edgead.heads.nearest import BANK
from edgead.learning.commission.backbone import FrozenBackbone
from edgead.learning.commission.checks import find_odd
from edgead.learning.commission.collect import CommissionError
from edgead.learning.patch_features import each_features
from edgead.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.memory_bank.feature_metric import fit_metric
from edgead.memory_bank.feature_scale import fit_scale

# 0.2 GiB of features of the packaged backbone; a device has less memory than a workstation.
MOST_PATCHES = 300_000
# The share of an image's patches that are furthest from the others' shows whether the image is an odd one.
FURTHEST = 0.01


def learn(
    draft: Path, manifest: Manifest, backbone: FrozenBackbone, images: Sequence[np.ndarray], progress: StageProgress
) -> list[int]:
    """Learn from preprocessed images of good parts; writes the graph and the arrays into the draft.

    Returns
    -------
    list of int
        Images that are far from all others; their patches are not in the bank.
    """
    graph = with_properties(backbone.graph, manifest.graph_properties)
    (draft / manifest.graphs["fp32"].file).write_bytes(graph)
    patches = _raw_patches(Artifact(draft, manifest), backbone, images, progress)
    scale = fit_scale(patches, backbone.channels)
    scale.standardise(patches, damp_length=backbone.damp_length)
    if backbone.whiten:
        metric = fit_metric(patches, range(len(images)), seed=backbone.settings["seed"])
        scale = replace(scale, metric=metric)
        patches @= metric
    rule = _bank_rule(backbone)
    origin = np.arange(len(patches)) // (len(patches) // len(images))
    chosen = choose_memory_bank(patches, rule, progress=partial(progress, "choose memory bank"))
    scores = _left_out_scores(patches, origin, chosen, partial(progress, "compare parts"))
    odd = find_odd(scores)
    if odd:
        patches = np.ascontiguousarray(patches[~np.isin(origin, odd)])
        chosen = choose_memory_bank(patches, rule, progress=partial(progress, "choose again"))
    write_arrays(draft, manifest, {BANK: patches[chosen], **backbone.inputs(scale)})
    return odd


def _bank_rule(backbone: FrozenBackbone) -> BankRule:
    settings = backbone.settings
    least = backbone.head.least_rows
    return BankRule(settings["coreset_sampling_ratio"], settings["memory_bank_size"], least, settings["seed"])


def _raw_patches(
    draft: Artifact, backbone: FrozenBackbone, images: Sequence[np.ndarray], progress: StageProgress
) -> np.ndarray:
    """Raw features, float32 (patches, d), as many of every image."""
    rng = np.random.default_rng(backbone.settings["seed"])
    write_arrays(draft.path, draft.manifest, backbone.inputs(backbone.neutral()))
    rows: list[np.ndarray] = []
    for features in each_features(draft, images, partial(progress, "extract features")):
        keep = min(len(features), max(1, MOST_PATCHES // len(images)))
        picks = slice(None) if keep == len(features) else np.sort(rng.choice(len(features), keep, replace=False))
        rows.append(features[picks] * np.float32(backbone.raw_factor))
    patches = np.concatenate(rows)
    if not np.isfinite(patches).all():
        raise CommissionError("the backbone gave NaN or infinity: it is broken, or its engine is")
    return patches


def _left_out_scores(patches: np.ndarray, origin: np.ndarray, chosen: np.ndarray, progress: Progress) -> np.ndarray:
    """How far the furthest patches of each image are from the bank without the image's own rows, (images,)."""
    count = int(origin[-1]) + 1
    scores = np.zeros(count)
    for image in range(count):
        rest = chosen[origin[chosen] != image]
        if len(rest):
            own = patches[origin == image]
            distance, _ = kernels.NearestPatches(np.ascontiguousarray(patches[rest])).search(own)
            furthest = max(1, round(FURTHEST * len(own)))
            scores[image] = np.sort(distance[:, 0])[-furthest:].mean()
        progress(image + 1, count)
    return scores
