"""MuSc, equal to the paper and the authors' code: scores unlabelled images by each other, with CLIP.

Li et al., "MuSc: Zero-shot industrial anomaly classification and segmentation with mutual scoring of the unlabeled
images", ICLR 2024, arXiv 2401.16753; `tests/test_musc_authors.py` compares the numbers.
`edgead.unlabelled.screening.mutual` is edgead's own variant, with other features and another score.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import cut
from edgead.dataset.folders import Progress, StageProgress
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.kernels import GroupedPatches
from edgead.kernels.backend import cuda_problem
from edgead.unlabelled.screening.mutual import ALIKE, Floats, constrain, interval_average
from edgead.unlabelled.screening.screeners import ScreenPlan
from edgead.workstation.trainer.device import choose_device
from edgead_foundation.backbones.files import recognise
from edgead_foundation.backbones.names import CLIP, OPENCLIP, TOWERS
from edgead_foundation.backbones.towers import build_tower

SIDE = 518
"""Side in pixels that images are resized to, rounded to whole patches."""
REACHES = (1, 3, 5)
"""Sides, in patches, of the neighbourhoods whose mean is compared: the r of LNAMD."""
Count = Callable[[int], object]
RESAMPLING = Image.Resampling.BICUBIC


def compared_blocks(depth: int) -> tuple[int, ...]:
    """Return the last blocks of the quarters of a tower: 6, 12, 18 and 24 for ViT-L, as in the paper."""
    return tuple(depth * quarter // 4 for quarter in range(1, 5))


class ClipTokens:
    """Image tower of CLIP: from an image to the patch tokens of some blocks and the embedding of the image.

    `weights`: file written, or readable, by `edgead weights`.
    Raises SettingsError: the file holds another network, or timm is not installed.
    """

    def __init__(self, weights: Path):
        if not weights.is_file():
            raise SettingsError(
                f"there is no file {weights}: musc compares images with CLIP, give a file of its weights"
            )
        name = recognise(weights)
        tower = TOWERS[name]
        if tower.family not in (CLIP, OPENCLIP):
            raise SettingsError(f"{weights} holds {name}: musc compares images with CLIP, give a file of its weights")
        self.side = max(1, round(SIDE / tower.patch)) * tower.patch
        self.blocks = compared_blocks(tower.depth)
        self._device = choose_device("auto")
        size = (self.side, self.side)
        network: Any = build_tower(name, size, weights=weights, positions="plain")
        mean, std = (torch.tensor(network.pretrained_cfg[key]) for key in ("mean", "std"))
        self._mean, self._std = mean.view(3, 1, 1), std.view(3, 1, 1)
        self._network = network.to(self._device)

    def resized(self, image: np.ndarray) -> Tensor:
        """BGR, uint8 (h, w, 3) -> normalised RGB, float32 (3, side, side): stretched and bicubic like the authors'."""
        pixels = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).resize((self.side, self.side), RESAMPLING)
        return (torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255 - self._mean) / self._std

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> tuple[Floats, Floats]:
        """BGR, uint8 (h, w, 3) -> tokens before the last normalisation (blocks, d, h', w'), embedding (e,)."""
        indices = [block - 1 for block in self.blocks]
        x = self.resized(image)[None].to(self._device)
        last, tokens = self._network.forward_intermediates(x, indices=indices)
        embedding = self._network.forward_head(last)
        return torch.cat(tokens).cpu().numpy(), embedding[0].cpu().numpy()


class MuscScorer:
    """Screening method MuSc, see `edgead.unlabelled.screening.screeners.PileScorer`; ignores which part is shown.

    `plan`: plan whose `backbone` is a file of CLIP's weights, see `ClipTokens`. Of its rule only two values count: the
        interval, the share of the other images whose distances to a patch are averaged, 0.3 in the paper (with fewer
        than five images at least one is used, while the authors' code divides by zero); and `alike`, if given: the
        authors use 1, 8 and 9 for VisA.
    Raises SettingsError: the backbone is missing or is no CLIP, or a zoom is given although the paper uses one size of
        images.
    """

    knows_parts = False

    def __init__(self, plan: ScreenPlan):
        if plan.backbone is None:
            raise SettingsError("musc compares images with CLIP: name a file of its weights with --backbone")
        if plan.zoom is not None:
            raise SettingsError("musc looks at images of one size, as the paper does: leave out --zoom")
        self.tower = ClipTokens(Path(plan.backbone))
        self.interval, self.alike = plan.rule.interval, plan.rule.alike or ALIKE
        self.preprocessing = Preprocessing(image_size=(self.tower.side, self.tower.side)).model_copy(
            update={"roi": plan.roi}
        )

    def __call__(
        self, paths: Sequence[Path], parts: Sequence[int], progress: StageProgress
    ) -> tuple[npt.NDArray[np.float64], Floats]:
        """Score each image, float64 (n,), and its patches, float32 (n, h, w)."""
        del parts
        with tempfile.TemporaryDirectory(prefix="edgead.") as folder:
            report = partial(progress, "extract features")
            tokens, embeddings = self.describe(paths, Path(folder) / "tokens.npy", report)
            maps = mutual_maps(tokens, self.interval, partial(progress, "compare parts"))
        return image_scores(maps, embeddings, self.tower.side, self.alike), maps.astype(np.float32)

    def describe(
        self, paths: Sequence[Path], file: Path, progress: Progress | None = None
    ) -> tuple[npt.NDArray[np.float32], Floats]:
        """Compute tokens of all images (n, blocks, d, h, w), in a file to save memory, and embeddings (n, e)."""
        tokens: np.memmap | None = None
        embeddings = []
        for number, path in enumerate(paths):
            found, embedding = self.tower(cut(load_image(path), self.preprocessing.roi))
            if tokens is None:
                tokens = np.lib.format.open_memmap(file, "w+", np.float32, (len(paths), *found.shape))
            tokens[number] = found
            embeddings.append(embedding)
            if progress:
                progress(number + 1, len(paths))
        assert tokens is not None
        return tokens, np.stack(embeddings)


def mutual_maps(tokens: Floats, interval: float, progress: Progress | None = None) -> npt.NDArray[np.float64]:
    """Score patches by the other images: the paper's MSM on its LNAMD, averaged over blocks and neighbourhoods.

    `tokens`: ndarray of shape (n, blocks, d, h, w), float32.
    `progress`: called with (done, total).
    Returns ndarray of shape (n, h, w), float64.
    """
    n, blocks, _, h, w = tokens.shape
    total = np.zeros((n, h * w))
    turns = [(reach, block) for reach in REACHES for block in range(blocks)]

    def report(turn: int, done: int) -> None:
        if progress:
            progress(turn * n + done, len(turns) * n)

    for turn, (reach, block) in enumerate(turns):
        patches = [aggregate(image, reach) for image in tokens[:, block]]
        total += mutual_distances(patches, interval, partial(report, turn))
    return (total / len(turns)).reshape(n, h, w)


def neighbourhoods(tokens: Floats, reach: int) -> Floats:
    """Describe each patch by its neighbourhood, the paper's LNAMD: one block's tokens (d, h, w) -> (h * w, d).

    Tokens are normalised over channels and places together and averaged over reach x reach patches, with zeros outside
    the image.
    """
    x = torch.from_numpy(np.array(tokens))[None]
    x = F.avg_pool2d(F.layer_norm(x, x.shape[1:]), reach, stride=1, padding=reach // 2)
    return x[0].flatten(1).T.contiguous().numpy()


def aggregate(tokens: Floats, reach: int) -> Floats:
    """Scale neighbourhoods to length 1, (h * w, d), to compare them by direction."""
    rows = neighbourhoods(tokens, reach)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mutual_distances(
    patches: Sequence[Floats], interval: float, progress: Count | None = None
) -> npt.NDArray[np.float64]:
    """Score patches, a (p, d) for each of n images, by the paper's MSM: (n, p).

    The score is the mean distance of a patch to the nearest patch of each image, over the nearest images.
    """
    backend = "auto" if cuda_problem() else "cuda"
    index = GroupedPatches(np.concatenate(patches), [len(rows) for rows in patches], backend=backend)
    scores = np.empty((len(patches), len(patches[0])))
    for number, rows in enumerate(patches):
        scores[number] = interval_average(index.search(rows), np.arange(len(patches)) != number, interval)
        if progress:
            progress(number + 1)
    return scores


def pixel_maps(maps: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Resize patch scores (n, h, w) to pixels (n, side, side), with aligned corners."""
    x = torch.from_numpy(maps)[:, None]
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=True)[:, 0].numpy()


def peaks(maps: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Compute the highest pixel of each image, (n,)."""
    return np.array([pixel_maps(one[None], side).max() for one in maps])


def image_scores(
    maps: npt.NDArray[np.float64], embeddings: Floats, side: int, alike: Sequence[int] = ALIKE
) -> npt.NDArray[np.float64]:
    """Move each image's peak towards the peaks of similar images: the paper's RsCIN. Returns 0 to 1, (n,)."""
    return constrain(peaks(maps, side), embeddings, alike, least_cosine=-1)
