"""Network of FiLo; see `edgead_foundation.filo.detector` for the method and its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead_foundation.clip.value_paths import two_paths
from edgead_foundation.clip.words import ClipTower
from edgead_foundation.filo.words import PLACES, FiloWords, Sentences

OWN_BLOCKS = 6
"""Number of blocks before the second path begins, in every tower."""
KERNELS = {"33": (3, 3), "11": (1, 1), "77": (7, 7), "55": (5, 5), "51": (5, 1), "15": (1, 5)}
"""Height and width of the convolutions that are summed, by the authors' names."""

SCALE = 100.0 / 2**0.5
"""Factor of cosines: the authors' code divides both texts, of length 1, by the length of the two together."""
PLACE_TEMPERATURE = 0.05
"""Temperature of the weights of places by the map's highest values there; not in the authors' code."""
_SIGMA = 4.0


class MultiShape(nn.Module):
    """MMCI of the authors: sum of convolutions of several sizes and shapes."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.kernels = nn.ModuleDict(
            {name: nn.Conv2d(inputs, outputs, size, padding="same") for name, size in KERNELS.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x) for layer in self.kernels.values()]).sum(dim=0)

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """Merge into one convolution with the largest kernel, which needs half of the multiplications."""
        layers: list[Any] = list(self.kernels.values())
        side = max(max(size) for size in KERNELS.values())
        merged = nn.Conv2d(layers[0].in_channels, layers[0].out_channels, side, padding=side // 2)
        merged.weight.zero_()
        for layer in layers:
            rows, columns = ((side - count) // 2 for count in layer.kernel_size)
            merged.weight += F.pad(layer.weight, (columns, columns, rows, rows))
        merged.bias.copy_(sum(layer.bias for layer in layers))  # type: ignore[union-attr]
        return merged


class FiloNetwork(ClipTower):
    """Network that compares texts, which depend on the image, with decoded patches of the tower and of a second path.

    `tower`: nn.Module.
    `blocks`: blocks whose patches are decoded, in rising order: `OWN_BLOCKS` and later ones.
    `place`: place whose words are used; "all" weighs all nine equally, "map" by the resulting map.
    `good`, `anomalous`: sentences on the product; `Filo` sets these three.
    """

    words: FiloWords
    good: Sentences
    anomalous: Sentences

    def __init__(self, tower: Any, blocks: Sequence[int], place: str):
        super().__init__(tower)
        self.blocks, self.place = tuple(blocks), place
        width, embedded = tower.embed_dim, tower.num_classes
        self.linear = nn.ModuleList(nn.Linear(width, embedded) for _ in blocks)
        self.shapes = nn.ModuleList(MultiShape(width, embedded) for _ in blocks[1:])
        self.narrow = nn.Linear(embedded, embedded // 2, bias=False)
        self.widen = nn.Linear(embedded // 2, embedded, bias=False)

    @property
    def places(self) -> tuple[str, ...]:
        """Places whose words are encoded."""
        return PLACES if self.place in ("all", "map") else (self.place,)

    def merge(self) -> None:
        """Merge the convolutions of each `MultiShape` into one, after training."""
        self.shapes = nn.ModuleList(each.merged() if isinstance(each, MultiShape) else each for each in self.shapes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h, w), and image scores, float32 (n,)."""
        embedding, patches, good, anomalous = self.understand(image)
        anomaly_map, score = self.judge(embedding, patches, good, anomalous.mean(dim=1))
        if self.place == "map":
            weights = (highest(anomaly_map) / PLACE_TEMPERATURE).softmax(dim=1)
            placed = (weights[:, :, None] * anomalous).sum(dim=1)
            anomaly_map, score = self.judge(embedding, patches, good, placed)
        return anomaly_map, score

    def understand(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the embeddings of images and their texts.

        `image`: Tensor of shape (n, h, w, 3), uint8, RGB.
        Returns (Tensor of shape (n, d), Tensor of shape (n, m, p, d), Tensor of shape (n, d), Tensor of shape (n,
            places, d)): embeddings of the image, of patches by m decoders, and of the good text, all of length 1; and
            the anomalous text of each place, see `FiloWords`.
        """
        embedding, original, local = self.embed(image)
        adapted = self.adapt(embedding)
        words = self.words(adapted, self.good, self.anomalous, len(self.places))
        return adapted, self.decode(original, local), *words

    def embed(self, image: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """uint8 RGB (n, h, w, 3) -> image (n, d), patches (n, p, width) of each block, and of the second path's last.

        The authors' code stores tokens that later blocks change in place: tokens of a block on the first path include
        the next block's attention; tokens of the block before the second path, and of each on it, equal the last.
        """
        depth = len(self.tower.blocks)
        later = sorted(number + 1 for number in self.blocks[1:] if number < depth)
        first, found = two_paths(
            self.tower, self.tokens(image), {*later, depth}, depth - OWN_BLOCKS, beside=lambda block, tokens: tokens
        )
        local = found[-1]
        kept = [local, *found[0 : 2 * len(later) : 2], *([first] if depth in self.blocks else [])]
        embedding = self.tower.head(self.tower.norm(first[:, 0]))
        return embedding, [each[:, 1:] for each in kept], local[:, 1:]

    def adapt(self, embedding: Tensor) -> Tensor:
        """Embeddings of images (n, d) -> adapted, of length 1."""
        return F.normalize(embedding + F.silu(self.widen(F.relu(self.narrow(embedding)))), dim=-1)

    def decode(self, original: Sequence[Tensor], local: Tensor) -> Tensor:
        """Patches from `embed` -> patches by each decoder, of length 1, (n, m, p, d)."""
        grid = local.transpose(1, 2).unflatten(2, self.grid)
        of_shapes = [layer(grid).flatten(2).transpose(1, 2) for layer in self.shapes]
        of_blocks = [layer(each) for layer, each in zip(self.linear, original, strict=True)]
        return F.normalize(torch.stack([*of_blocks, *of_shapes], dim=1), dim=-1)

    def shares(self, patches: Tensor, good: Tensor, anomalous: Tensor) -> Tensor:
        """Patches (n, m, p, d) and texts of length 1 (n, d) -> each pixel's anomaly, 0..1, (n, m, h, w)."""
        differences = (patches @ (SCALE * (anomalous - good))[:, None, :, None]).squeeze(3).unflatten(2, self.grid)
        size = self.tower.patch_embed.img_size
        return F.interpolate(differences, size=size, mode="bilinear", align_corners=True).sigmoid()

    def judge(self, embedding: Tensor, patches: Tensor, good: Tensor, anomalous: Tensor) -> tuple[Tensor, Tensor]:
        """Results of `understand`, with an anomalous text of any length (n, d) -> maps (n, h, w) and scores (n,)."""
        anomalous = F.normalize(anomalous, dim=-1)
        anomaly_map = blurred(self.shares(patches, good, anomalous).mean(dim=1))
        cosines = (embedding * anomalous).sum(dim=1) / 2**0.5
        return anomaly_map, (cosines + anomaly_map.amax(dim=(1, 2))) / 2


def blurred(maps: Tensor) -> Tensor:
    """Blur by a Gaussian of 3 x 3 pixels as in torchvision; quantisation would take a convolution for a layer."""
    near = torch.exp(torch.tensor(-0.5 / _SIGMA**2)).item()
    side, middle = near / (1 + 2 * near), 1 / (1 + 2 * near)
    x = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    x = side * (x[:, :-2] + x[:, 2:]) + middle * x[:, 1:-1]
    return side * (x[:, :, :-2] + x[:, :, 2:]) + middle * x[:, :, 1:-1]


def highest(maps: Tensor) -> Tensor:
    """Compute the maximum in each of `PLACES`: maps (n, h, w) -> (n, 9)."""
    rows, columns = (_thirds(side) for side in maps.shape[1:])
    return torch.stack([maps[:, row, column].amax(dim=(1, 2)) for row in rows for column in columns], dim=1)


def _thirds(side: int) -> list[slice]:
    bounds = [round(side * third / 3) for third in range(4)]
    return [slice(*each) for each in zip(bounds, bounds[1:], strict=False)]
