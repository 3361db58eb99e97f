"""WinCLIP (Jeong et al. 2023), zero-shot: compares windows of an image with texts on good and bad parts, by CLIP.

The network is the paper's: an ensemble of sentences, separately embedded windows of several sizes, and the harmonic
mean of their shares of the anomalous text. Its numbers equal anomalib's (`tests/test_words_authors.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead_foundation.clip.words import WordsMethod, WordsNetwork, check_clip, check_temperature

GOOD = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)
"""States and templates of the paper's appendix."""


@dataclass(frozen=True)
class WinClipConfig(MethodConfig):
    """Settings of winclip.

    Attributes
    ----------
    backbone : str
        A tower of CLIP, see `edgead_foundation.backbones.names`.
    image_size : (int, int)
        Height and width that images are resized to.
    part : str
        Name of the part in English: "metal nut", "printed circuit board".
    good, anomalous : tuple of str
        Descriptions of good and anomalous parts, with {} for the part.
    templates : tuple of str
        Sentences, with {} for a described part.
    scales : tuple of int
        Sides of the windows in patches; the whole image is added.
    temperature : float
        Divisor of cosines before the softmax.
    sigma_px : float
        Smoothing of the anomaly map; the paper has none.
    seed : int
        Every method takes one; here nothing is drawn at random.
    """

    backbone: str = "openclip_vitb16_plus"
    image_size: tuple[int, int] = (240, 240)
    part: str = "object"
    good: tuple[str, ...] = GOOD
    anomalous: tuple[str, ...] = ANOMALOUS
    templates: tuple[str, ...] = TEMPLATES
    scales: tuple[int, ...] = (2, 3)
    temperature: float = 0.07
    sigma_px: float = 0.0

    def __post_init__(self) -> None:
        check_clip(self.backbone)
        check_temperature(self.temperature)
        for name in ("good", "anomalous", "templates"):
            texts = getattr(self, name)
            if not texts or not all(text.count("{}") == 1 for text in texts):
                raise ValueError(f"{name} {list(texts)}: give texts that have {{}} once each, such as 'flawless {{}}'")
        if not self.part.strip():
            raise ValueError("part is empty: say what the images show, such as part='metal nut'")
        if not self.scales or min(self.scales) < 1:
            raise ValueError(f"scales {list(self.scales)}: give sides of windows in patches, such as [2, 3]")


class WinClipNetwork(WordsNetwork):
    """Network of patch scores, from the windows that cover each patch, and of the image score.

    Parameters
    ----------
    tower, temperature
        Parameters of `WordsNetwork`.
    scales : sequence of int
        Sides of the windows, none longer than the grid.
    """

    def __init__(self, tower: Any, temperature: float, scales: Sequence[int]):
        super().__init__(tower, temperature)
        self.scales = tuple(scales)
        for scale in self.scales:
            windows = windows_of(self.grid, scale)
            covered = F.one_hot(windows, self.grid[0] * self.grid[1]).sum(dim=1).float()
            self.register_buffer(f"windows{scale}", 1 + windows, persistent=False)  # after the class token
            self.register_buffer(f"weights{scale}", covered / covered.sum(dim=0), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w'), and image scores, float32 (n,)."""
        tokens = self.tokens(image)
        image_score = self.anomalous(self._embed(tokens))
        inverse = (1 / image_score)[:, None]
        for scale in self.scales:
            scores = self._window_scores(tokens, getattr(self, f"windows{scale}"))
            inverse = inverse + (1 / scores) @ getattr(self, f"weights{scale}")
        patch_scores = (1 + len(self.scales)) / inverse
        return patch_scores.unflatten(1, self.grid), image_score

    def _window_scores(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Tokens (n, 1 + patches, d) and windows (w, k) of them -> share of the anomalous text, (n, w)."""
        inside = tokens[:, windows]
        first = tokens[:, None, :1].expand(-1, len(windows), -1, -1)
        each = torch.cat([first, inside], dim=2).flatten(0, 1)
        return self.anomalous(self._embed(each)).unflatten(0, (-1, len(windows)))

    def _embed(self, tokens: Tensor) -> Tensor:
        """Tokens before their normalisation, (n, t, d) -> embeddings of the class token, (n, d)."""
        x = self.tower.norm_pre(tokens)
        for block in self.tower.blocks:
            x = block(x)
        return self.tower.head(self.tower.norm(x[:, 0]))


class WinClip(WordsMethod[WinClipConfig]):
    """Judges by what words say of good and damaged parts, window by window; nothing is learnt."""

    network: WinClipNetwork

    name = "winclip"
    config_class = WinClipConfig
    presets = {"default": {}}
    purpose = "words and a file of CLIP, and no image to learn from; everything is for review until `edgead calibrate`"
    preset_purposes = {"default": "the paper's network and sentences"}

    def __init__(
        self, config: WinClipConfig = WinClipConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config, weights=weights, pretrained=pretrained)
        if self.text is not None:
            means = [self.text.encode(self.sentences(states)).mean(dim=0) for states in (config.good, config.anomalous)]
            self.network.set_texts(torch.stack(means))

    def build(self, tower: nn.Module) -> WinClipNetwork:
        return WinClipNetwork(tower, self.config.temperature, self.config.scales)

    def learn(self, images: Sequence[Any], course: Course) -> None:
        """Do nothing, as the method learns nothing from images."""

    def sentences(self, states: Sequence[str]) -> list[str]:
        """Insert every state into every template."""
        described = [state.replace("{}", self.config.part) for state in states]
        return [template.replace("{}", part) for part in described for template in self.config.templates]


def windows_of(grid: tuple[int, int], side: int) -> Tensor:
    """List the indices of the patches in each window of `side` x `side` patches, row by row: int64 (w, side^2).

    Raises
    ------
    SettingsError
        The window does not fit into the grid.
    """
    if side > min(grid):
        raise SettingsError(
            f"windows of {side} x {side} patches do not fit into {grid[0]} x {grid[1]}: give smaller scales"
        )
    patches = torch.arange(grid[0] * grid[1]).view(grid)
    return patches.unfold(0, side, 1).unfold(1, side, 1).flatten(0, 1).flatten(1)
