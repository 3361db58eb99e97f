"""MemoryOut: Li et al., "MemoryOut: Learning Principal Features via Multimodal Sparse Filtering Network for
Semi-supervised Video Anomaly Detection" (arXiv 2506.02535 v1, v2), from v3 on and at ICME 2026 "Video Anomaly Detection
with Semantics-Aware Information Bottleneck" (SIB-VAD).

Predictor, filters, losses and scores are those of the authors' code, https://github.com/qzfm/sib_vad_code. The inputs
are edgead's: features of an EfficientNet-Lite in place of InternVL's vision tower; its deepest features, averaged over
frame and clip, in place of a sentence about the clip by a vision-language model; pixels in place of the tower's patch
embedding. No language is used. Also edgead's are the initial weights, which reproduce the last frame, the schedule of
the learning rate, and the sizes and steps of `default`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.adapt.frozen_backbone import LITE
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.pretrained import build_backbone, layer_shapes
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_video.memoryout.losses import motion_loss, semantic_error
from edgead_video.memoryout.network import HEADS, LAYERS, PATCH, FramePredictor, StripNetwork, begin_with_last_frame
from edgead_video.strips import FRAMES, GIVEN

BALANCE_WEIGHT = 0.001
"""Weight of the loss that makes tokens use all experts equally."""
WEIGHT_DECAY = 1e-5
MEASURED = 256
"""Largest number of strips from which the usual size of errors is computed."""
_AT_ONCE = 16


@dataclass(frozen=True)
class MemoryOutConfig(MethodConfig):
    """Settings of MemoryOut.

    Attributes
    ----------
    image_size : (int, int)
        Height and width of one frame of a strip, multiples of 16.
    backbone : str
        An EfficientNet-Lite.
    dim : int
        Length of a token, a multiple of 16.
    layers : int
        Number of blocks in each stage of the predictor, and of filters.
    bottleneck : int
        Width of an expert's bottleneck; smaller than `dim`.
    experts, chosen : int
        Number of experts of a filter beside the shared expert, and number of experts that each token uses.
    semantic_weight : float
        Share of the semantic error in the score, from 0 to 1; the rest is the share of the predicted frame's error.
    window : int
        Side, in patches of 8 pixels, of the squares whose largest mean error is the frame's error; 0 takes the mean of
        the whole frame, as the authors do.
    steps : int
    batch_images : int
    learning_rate : float
        Initial learning rate of Adam; it falls to 0 along half a cosine.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    image_size: tuple[int, int] = (128, 128)
    backbone: str = "efficientnet_lite0"
    dim: int = 128
    layers: int = 2
    bottleneck: int = 4
    experts: int = 63
    chosen: int = 7
    semantic_weight: float = 0.2
    window: int = 4
    steps: int = 2000
    batch_images: int = 8
    learning_rate: float = 5e-4
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if any(side < 32 or side % 16 for side in self.image_size):
            raise SettingsError(
                f"image_size {list(self.image_size)}: that of one frame is needed, multiples of 16 from 32 on"
            )
        if self.dim < 4 * HEADS or self.dim % (4 * HEADS):
            raise SettingsError(f"dim {self.dim}: a multiple of {4 * HEADS} is needed")
        if not 0 < self.bottleneck < self.dim:
            raise SettingsError(f"bottleneck {self.bottleneck}: at least 1 and less than dim, {self.dim}, is needed")
        if not 0 < self.chosen <= self.experts:
            raise SettingsError(f"chosen {self.chosen}: at least 1 and at most experts, {self.experts}, are needed")
        if min(self.layers, self.steps, self.batch_images) < 1 or self.window < 0:
            raise SettingsError("layers, steps and batch_images must be at least 1, and window at least 0")
        if not 0 <= self.semantic_weight <= 1:
            raise SettingsError(f"semantic_weight {self.semantic_weight}: a share from 0 to 1 is needed")
        if self.backbone not in LITE:
            raise SettingsError(f"backbone {self.backbone!r}: memoryout takes one of {', '.join(LITE)}")


class Clips(NamedTuple):
    """Distinct frames of strips, with their features.

    `frames`: Tensor of shape (m, h, w, 3), uint8.
    `seen` (Tensor of shape (m, 1 + places, c), float16): features of each frame as a whole, then of its places.
    `deep` (Tensor of shape (m, c)): deepest features of each frame.
    `strips` (ndarray of shape (n, FRAMES)): indices of each strip's frames.
    """

    frames: Tensor
    seen: Tensor
    deep: Tensor
    strips: np.ndarray

    def given(self, picked: np.ndarray) -> Tensor:
        """Return the indices of the frames before the last one for the strips `picked`, (n, GIVEN)."""
        return torch.from_numpy(self.strips[picked, :GIVEN])


def take_apart(strips: Sequence[np.ndarray], network: StripNetwork, device: torch.device, progress: Progress) -> Clips:
    """Split strips, uint8 RGB (FRAMES h, w, 3), into distinct frames and compute the backbone's features of each.

    Strips of a clip share frames: identical frames are kept once.
    """
    network = network.to(device)
    known: dict[bytes, int] = {}
    frames: list[np.ndarray] = []
    index = np.empty((len(strips), FRAMES), np.int64)
    looks: list[tuple[Tensor, Tensor]] = []

    def look(rest: int) -> None:
        while len(frames) - _AT_ONCE * len(looks) >= rest:
            batch = torch.from_numpy(np.stack(frames[_AT_ONCE * len(looks) :][:_AT_ONCE])).to(device)
            seen, deep = network.look(batch)
            looks.append((seen.half().cpu(), deep.cpu()))

    with torch.inference_mode():
        for number in range(len(strips)):
            for place, frame in enumerate(np.split(strips[number], FRAMES)):
                key = blake2b(frame.tobytes(), digest_size=16).digest()
                if key not in known:
                    known[key] = len(frames)
                    frames.append(frame)
                index[number, place] = known[key]
            look(_AT_ONCE)
            progress(number + 1, len(strips))
        look(1)
        seen, deep = (torch.cat(parts).clone() for parts in zip(*looks, strict=True))
    return Clips(torch.from_numpy(np.stack(frames)), seen, deep, index)


class MemoryOut(NetworkMethod[MemoryOutConfig]):
    """MemoryOut: learns to predict the next frame of good clips; frames that differ from the prediction score high."""

    network: StripNetwork

    name = "memoryout"
    config_class = MemoryOutConfig
    presets = {
        "default": {},
        "large": {
            "image_size": (256, 256),
            "dim": 256,
            "layers": 4,
            "bottleneck": 8,
            "window": 0,
            "steps": 37_000,
            "batch_images": 64,
            "learning_rate": 2e-4,
        },
    }
    purpose = "clips of a fixed camera: what moves or looks otherwise than in good ones"
    preset_purposes = {
        "default": "ours: small, a CPU to train on; half an hour",
        "large": "the authors' sizes of the predictor, on our features: a GPU",
    }

    def __init__(
        self, config: MemoryOutConfig = MemoryOutConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config)
        size = config.image_size
        backbone = build_backbone(config.backbone, LAYERS, image_size=size, weights=weights, pretrained=pretrained)
        (fine, *grid), (coarse, *_), (deep, *_) = layer_shapes(backbone, size)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            predictor = FramePredictor(
                (fine + coarse, 3 * PATCH**2, deep),
                dim=config.dim,
                layers=config.layers,
                grid=(grid[0], grid[1]),
                bottleneck=config.bottleneck,
                experts=config.experts,
                chosen=config.chosen,
            )
        begin_with_last_frame(predictor)
        self.network = StripNetwork(backbone, predictor, deep).eval()

    @property
    def preprocessing(self) -> Preprocessing:
        height, width = self.config.image_size
        return Preprocessing(image_size=(FRAMES * height, width))

    @property
    def head(self) -> MapHead:
        config = self.config
        # Errors are 0 or more, and 0 on upper frames: the largest mean of frame-sized windows is the last frame's.
        return MapHead(
            window=config.window or max(config.image_size) // PATCH,
            patch_weight=1 - config.semantic_weight,
            graph_weight=config.semantic_weight,
            sigma_px=config.sigma_px,
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Compute each frame's features once, then learn to predict the last frame of each strip from the others."""
        config, network, device = self.config, self.network, course.device
        clips = take_apart(images, network, device, partial(course.progress, "extract features"))
        means = clips.deep[clips.given(np.arange(len(images)))].mean(1)
        network.semantic_mean.copy_(means.mean(0))
        network.semantic_std.copy_(means.std(0, correction=0).clamp(min=1e-4))
        predictor = network.predictor.train()
        optimizer = torch.optim.Adam(predictor.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            frames, seen, deep = self._batch(clips, rng.integers(len(images), size=config.batch_images), device)
            given, came = frames[:, :GIVEN], frames[:, GIVEN]
            semantic = network.semantic(deep)
            predicted, again, uneven = predictor(given, seen, network.appearance(given[:, -1]), semantic)
            loss = F.mse_loss(predicted, came) + semantic_error(again, semantic).mean()
            loss = loss + motion_loss(predicted, came, given[:, -1]) + BALANCE_WEIGHT * uneven
            return descend(loss, optimizer)

        run_steps(
            step,
            Learner(predictor, [optimizer]),
            config.steps,
            seed=config.seed,
            schedule=lambda number: (1 + math.cos(math.pi * number / config.steps)) / 2,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        network.eval()
        self._measure(clips, device)
        network.to(CPU)

    def _batch(self, clips: Clips, picked: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        given = clips.given(picked)
        frames = clips.frames[torch.from_numpy(clips.strips[picked])].to(device)
        return self.network.normal(frames), clips.seen[given].to(device).float(), clips.deep[given].to(device)

    def _measure(self, clips: Clips, device: torch.device) -> None:
        """Set the usual size of both errors on good clips, which makes them comparable for the weighted score."""
        network, count = self.network, len(clips.strips)
        network.usual.fill_(1)
        rows, columns = self.network.predictor.grid
        window = self.head.fitting_window((FRAMES * rows, columns))
        found = []
        picked = np.linspace(0, count - 1, min(count, MEASURED)).astype(int)
        with torch.inference_mode():
            for part in np.array_split(picked, -(-len(picked) // _AT_ONCE)):
                squares, semantic = network.errors(*self._batch(clips, part, device))
                patches = F.avg_pool2d(squares.mean(1, keepdim=True), PATCH)
                patches = F.pad(patches, (0, 0, GIVEN * rows, 0))
                found.append(torch.stack([F.avg_pool2d(patches, window, 1).amax((1, 2, 3)), semantic]))
        network.usual.copy_(torch.cat(found, dim=1).mean(1).clamp(min=1e-6))
