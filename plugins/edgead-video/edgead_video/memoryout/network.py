"""Networks of MemoryOut: three streams of features of four frames are fused, filtered and decoded into the fifth frame.

The predictor is the authors'; its input features are edgead's: see `edgead_video.memoryout.detector`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgead.workstation.backbones.pretrained import Backbone
from edgead_video.memoryout.filtering import Filter
from edgead_video.memoryout.losses import semantic_error
from edgead_video.strips import FRAMES, GIVEN

PATCH = 8
"""Side in pixels of a token's patch: the stride of the first backbone layer in use."""
LAYERS = ("stride8", "stride16", "stride32")
HEADS = 4
_ABOVE = 3.0
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def place_codes(dim: int, grid: tuple[int, int], others: int) -> Tensor:
    """Return position codes of a grid, (others + h w, dim) float32; the first `others` tokens have no place and get 0.

    The first half codes columns, the second rows, each with sines before cosines, as in the authors' code.
    """
    rows, columns = np.mgrid[: grid[0], : grid[1]].reshape(2, -1)
    rates = 1 / 10000 ** (np.arange(dim // 4) / (dim // 4))
    angles = [np.outer(places, rates) for places in (columns, rows)]
    codes = np.concatenate([part for angle in angles for part in (np.sin(angle), np.cos(angle))], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((others, dim)), codes])).float()


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute multi-head attention; all tensors are (n, t, d), and the heads divide d."""
    split = [part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (queries, keys, values)]
    weights = (split[0] @ split[1].transpose(2, 3) * split[0].shape[3] ** -0.5).softmax(-1)
    return (weights @ split[2]).transpose(1, 2).flatten(2)


def mlp(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Build two linear layers with a GELU between them."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out))


class Block(nn.Module):
    """Block of a vision transformer: self-attention and an MLP, each with pre-normalisation and a skip connection."""

    def __init__(self, dim: int, widening: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = mlp(dim, widening * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.out(attend(*self.qkv(self.attention_norm(tokens)).chunk(3, dim=2)))
        return tokens + self.mlp(self.mlp_norm(tokens))


class Motion(nn.Module):
    """Motion stream: turns differences of frames (n, 3, h, w) into tokens (n, 1 + places, dim)."""

    places: Tensor

    def __init__(self, dim: int, layers: int, grid: tuple[int, int], patch: int):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.summary = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.Sequential(*(Block(dim, 2) for _ in range(layers)))
        self.register_buffer("places", place_codes(dim, grid, 1), persistent=False)

    def forward(self, differences: Tensor) -> Tensor:
        tokens = self.embed(differences).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.summary.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.blocks(tokens + self.places)


class JointAttention(nn.Module):
    """Cross-attention of visual tokens to semantic and motion tokens together, weighted by the learnt `gains`."""

    def __init__(self, dim: int):
        super().__init__()
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in ("seen", "semantic", "motion", "mlp")})
        self.queries = nn.Linear(dim, dim)
        self.semantic = nn.Linear(dim, 2 * dim)
        self.motion = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = mlp(dim, 2 * dim, dim)
        self.gains = nn.Parameter(torch.zeros(2))

    def forward(self, seen: Tensor, semantic: Tensor, motion: Tensor) -> Tensor:
        of_semantic = self.semantic(self.norms["semantic"](semantic))
        of_motion = self.motion(self.norms["motion"](motion))
        keys, values = torch.cat([of_semantic, of_motion], dim=1).chunk(2, dim=2)
        found = self.out(attend(self.queries(self.norms["seen"](seen)), keys, values))
        seen = seen + self.gains[0] * found
        return seen + self.gains[1] * self.mlp(self.norms["mlp"](seen))


class FramePredictor(nn.Module):
    """Network that predicts a frame from features of the frames before it, and reconstructs their semantic features.

    `channels`: channels of the visual features, of the last frame's patches, and of the semantic features.
    `dim`: length of a token; half of it in the motion stream.
    `layers`: number of blocks in each stage.
    `grid`: height and width in tokens.
    `patch`: side of a token, pixels.
    `bottleneck`, `experts`, `chosen`: see `Filter`.
    """

    places: Tensor

    def __init__(
        self,
        channels: tuple[int, int, int],
        *,
        dim: int,
        layers: int,
        grid: tuple[int, int],
        patch: int = PATCH,
        bottleneck: int,
        experts: int,
        chosen: int,
    ):
        super().__init__()
        self.grid, self.patch = grid, patch
        seen, appearance, semantic = channels
        self.seen_in, self.appearance_in = nn.Linear(seen, dim), nn.Linear(appearance, dim)
        self.semantic_in = nn.Linear(semantic, dim)
        self.time = nn.Linear(GIVEN * dim, dim)
        self.motion = Motion(dim // 2, layers, grid, patch)
        self.motion_in = nn.Linear((GIVEN - 1) * (dim // 2), dim)
        self.joint = nn.ModuleList(JointAttention(dim) for _ in range(layers))
        self.fuse = mlp(2 * dim, 4 * dim, dim)
        self.blocks = nn.ModuleList(Block(dim, 4) for _ in range(layers))
        self.filters = nn.ModuleList(Filter(dim, bottleneck, experts, chosen) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.pixels = nn.Linear(2 * dim, patch**2 * 3)
        self.smooth = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(3, 3, 1))
        self.semantic_out = mlp(dim, 4 * dim, semantic)
        self.register_buffer("places", place_codes(dim, grid, 2), persistent=False)

    def forward(
        self, frames: Tensor, seen: Tensor, appearance: Tensor, semantic: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the frame after the given frames.

        `frames`: Tensor of shape (n, GIVEN, 3, h, w).
        `seen` (Tensor of shape (n, GIVEN, 1 + places, c)): features of each frame's places; features of the whole frame
            come first, here and below.
        `appearance` (Tensor of shape (n, 1 + places, c)): patches of the last frame.
        `semantic` (Tensor of shape (n, c)): semantic features of the frames together.
        Returns (Tensor of shape (n, 3, h, w), Tensor of shape (n, c), Tensor): the frame, the reconstructed semantic
            features, and the sum of the filters' `balance`.
        """
        differences = (frames[:, 1:] - frames[:, :-1]).flatten(0, 1)
        of_motion = self.motion(differences).unflatten(0, (-1, GIVEN - 1)).transpose(1, 2).flatten(2)
        motion = self.motion_in(of_motion)
        token = self.semantic_in(semantic)[:, None]
        tokens = self.time(self.seen_in(seen).transpose(1, 2).flatten(2))
        for joint in self.joint:
            tokens = joint(tokens, token, motion)
        tokens = self.fuse(torch.cat([tokens, motion], dim=2))
        tokens = torch.cat([token, tokens], dim=1) + self.places
        uneven = tokens.new_zeros(())
        for block, filters in zip(self.blocks, self.filters, strict=True):
            tokens, more = filters(block(tokens))
            uneven = uneven + more
        tokens = self.norm(tokens)
        pixels = self.pixels(torch.cat([tokens[:, 2:], self.appearance_in(appearance[:, 1:])], dim=2))
        rows, columns = self.grid
        pixels = pixels.reshape(-1, rows, columns, self.patch, self.patch, 3).permute(0, 5, 1, 3, 2, 4)
        frame = self.smooth(pixels.reshape(-1, 3, rows * self.patch, columns * self.patch))
        return frame, self.semantic_out(tokens[:, 0]), uneven


def cosine_basis(patch: int, count: int) -> Tensor:
    """Return the first `count` vectors of an orthonormal basis of patches (3, patch, patch), as rows: grey cosines,
    coarse before fine, then cosines of colours.
    """
    at = np.arange(patch)
    waves = np.cos(np.pi * np.outer(at, 2 * at + 1) / (2 * patch)) * np.sqrt(2 / patch)
    waves[0] /= np.sqrt(2)
    order = sorted(((row, column) for row in at for column in at), key=lambda place: (sum(place), place))
    planes = [np.outer(waves[row], waves[column]) for row, column in order]
    grey, *colours = (np.array(mix) / np.linalg.norm(mix) for mix in ([1, 1, 1], [1, 0, -1], [1, -2, 1]))
    rows = [np.multiply.outer(grey, plane) for plane in planes]
    rows += [np.multiply.outer(colour, plane) for plane in planes for colour in colours]
    return torch.from_numpy(np.stack(rows[:count]).reshape(-1, 3 * patch**2)).float()


def begin_with_last_frame(predictor: FramePredictor) -> None:
    """Set weights with which the prediction is the last frame, as closely as `dim` numbers for each patch allow.

    Not the authors': from random weights, a predictor needs thousands of steps to learn as much.
    """
    dim, patch = predictor.appearance_in.out_features, predictor.patch
    basis = cosine_basis(patch, dim)
    back = basis.view(-1, 3, patch, patch).permute(2, 3, 1, 0).flatten(0, 2)
    with torch.no_grad():
        for linear in (predictor.appearance_in, predictor.pixels):
            linear.weight.zero_()
            linear.bias.zero_()
        predictor.appearance_in.weight[: len(basis)] = basis
        predictor.pixels.weight[:, dim : dim + len(basis)] = back
        # All values are shifted above 0, where the activation is not linear.
        for layer, lift in ((predictor.smooth[0], _ABOVE), (predictor.smooth[2], -_ABOVE)):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.dirac_(layer.weight)
            layer.bias.fill_(lift)


def with_summary(tokens: Tensor) -> Tensor:
    """Put the mean of tokens (n, t, c) before the tokens, as convolutions give no token of the whole frame."""
    return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)


class StripNetwork(nn.Module):
    """Exported module: turns strips of frames, uint8 RGB (n, FRAMES h, w, 3), into errors of their last frames.

    `forward` gives patch scores (n, FRAMES h / 8, w / 8), the mean squared error of each patch of the last frame, 0 on
    the frames above, and image scores (n,), the semantic error. Each is divided by its usual size on good clips.

    `backbone`: backbone with the layers `LAYERS`, frozen.
    """

    semantic_mean: Tensor
    semantic_std: Tensor
    usual: Tensor

    def __init__(self, backbone: Backbone, predictor: FramePredictor, semantic_channels: int):
        super().__init__()
        self.backbone, self.predictor = backbone, predictor
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1))
        self.register_buffer("semantic_mean", torch.zeros(semantic_channels))
        self.register_buffer("semantic_std", torch.ones(semantic_channels))
        self.register_buffer("usual", torch.ones(2))

    def normal(self, frames: Tensor) -> Tensor:
        """Normalise frames, uint8 RGB (..., h, w, 3), for the predictor: float32 (..., 3, h, w)."""
        return (frames.movedim(-1, -3).float() / 255 - self.mean) / self.std  # type: ignore[operator]

    def look(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features of frames, uint8 RGB (n, h, w, 3): (n, 1 + places, c) by place, and (n, c) of the frame."""
        fine, coarse, deep = self.backbone(frames.permute(0, 3, 1, 2).float())
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="nearest")
        places = torch.cat([fine, coarse], dim=1).flatten(2).transpose(1, 2)
        return with_summary(places), deep.mean((2, 3))

    def appearance(self, frames: Tensor) -> Tensor:
        """Return the pixels of each patch of normalised frames (n, 3, h, w), as (n, 1 + places, c)."""
        side = self.predictor.patch
        patches = frames.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5)
        return with_summary(patches.flatten(3).flatten(1, 2))

    def semantic(self, deep: Tensor) -> Tensor:
        """Return semantic features of clips, (n, c), from deep features of their frames, (n, t, c)."""
        return (deep.mean(1) - self.semantic_mean) / self.semantic_std

    def errors(self, frames: Tensor, seen: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared errors (n, 3, h, w) of the last frame, and semantic errors (n,); see `forward`.

        `frames` are normalised, (n, FRAMES, 3, h, w); `seen` and `deep` are from `look`, for all frames but the last.
        """
        given, came = frames[:, :GIVEN], frames[:, GIVEN]
        semantic = self.semantic(deep)
        predicted, again, _ = self.predictor(given, seen, self.appearance(given[:, -1]), semantic)
        return (predicted - came) ** 2, semantic_error(again, semantic)

    def forward(self, strips: Tensor) -> tuple[Tensor, Tensor]:
        frames = strips.float().unflatten(1, (FRAMES, -1))  # float first, as TensorRT cannot reshape bytes
        seen, deep = self.look(frames[:, :GIVEN].flatten(0, 1))
        squares, semantic = self.errors(
            self.normal(frames), seen.unflatten(0, (-1, GIVEN)), deep.unflatten(0, (-1, GIVEN))
        )
        patches = F.avg_pool2d(squares.mean(1, keepdim=True), self.predictor.patch)[:, 0] / self.usual[0]
        above = patches.new_zeros(1, GIVEN * patches.shape[1], 1).expand(patches.shape[0], -1, patches.shape[2])
        return torch.cat([above, patches], dim=1), semantic / self.usual[1]
