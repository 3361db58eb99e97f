"""Trained network of INP-Former (Luo et al., arXiv 2503.02424), which reconstructs tokens from prototypes.

Modules take their widths as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError

_PARTS = {
    "prototypes": "prototype_token",
    "extractor": "aggregation.0",
    "bottleneck": "bottleneck.0",
    "decoder": "decoder",
}
PROTOTYPES, BLOCKS, MLP_RATIO, EPS = 6, 8, 4, 1e-8
"""Numbers of the authors' scripts; EPS is the epsilon of their layer norms."""


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class CrossAttention(nn.Module):
    """Base of attention from some tokens to others; subclasses define how each query weighs the values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (n, heads, t, c), keys and values (n, heads, s, c) -> (n, heads, t, c)."""
        return F.scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Attend from tokens (n, t, d) to tokens (n, s, d) -> (n, t, d)."""
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(y).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))


class PrototypeAttention(CrossAttention):
    """Attention to prototypes weighted by positive cosines, without normalisation of the weights to 1."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.learn_scale = nn.Parameter(torch.ones(heads, 1, 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cosine = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return F.relu(cosine * self.learn_scale) @ v


class ExtractorBlock(nn.Module):
    """Block in which learnt tokens attend to an image's tokens to become its prototypes (section 3.2)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, prototypes: Tensor, tokens: Tensor) -> Tensor:
        x = prototypes + self.attn(self.norm1(prototypes), self.norm1(tokens))
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Block that reconstructs tokens from prototypes only (section 3.3), without a residual around the attention."""

    def __init__(self, width: int, heads: int, ratio: int = MLP_RATIO):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = PrototypeAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, ratio * width)

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        x = self.attn(self.norm1(tokens), self.norm1(prototypes))
        return x + self.mlp(self.norm2(x))


class Reconstruction(nn.Module):
    """Network of prototypes of an image, a bottleneck, and a decoder that sees tokens only through the prototypes.

    `width`: channels of a token.
    `heads`: number of heads in every attention.
    `blocks`: number of decoder blocks; a multiple of `groups`.
    `groups`: number of groups of consecutive blocks whose outputs are averaged; the last blocks make the first group,
        which corresponds to the shallow layers of the encoder.
    `ratio`: channels inside the MLPs of bottleneck and decoder, in multiples of `width`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        blocks: int = BLOCKS,
        groups: int = 2,
        prototypes: int = PROTOTYPES,
        ratio: int = MLP_RATIO,
    ):
        super().__init__()
        self.groups = groups
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))
        self.extractor = ExtractorBlock(width, heads)
        self.bottleneck = Mlp(width, ratio * width)
        self.decoder = nn.ModuleList(DecoderBlock(width, heads, ratio) for _ in range(blocks))

    def forward(self, tokens: Tensor, whole: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Tokens (n, t, d) -> reconstructed tokens, (n, t, d) for each group, and the prototypes, (n, p, d).

        Prototypes are extracted from `whole`, (n, s, d), all tokens of the image, if `tokens` are only some of them.
        """
        seen = tokens if whole is None else whole
        prototypes = self.extractor(self.prototypes.expand(tokens.shape[0], -1, -1), seen)
        x, made = self.bottleneck(tokens), []
        for block in self.decoder:
            x = block(x, prototypes)
            made.append(x)
        size = len(made) // self.groups
        made.reverse()
        return [mean_of(made[start : start + size]) for start in range(0, len(made), size)], prototypes

    def load_authors(self, trained: Mapping[str, Tensor], file: Path) -> None:
        """Load the result of `backbones.files.read_inp_former`; raises SettingsError if it does not fit."""
        state = self.state_dict()
        names = {name: authors_name(name) for name in state}
        wanted = {names[name]: tuple(x.shape) for name, x in state.items()}
        found = {name: tuple(x.shape) for name, x in trained.items()}
        if found != wanted:
            name = min(name for name in wanted | found if wanted.get(name) != found.get(name))
            raise SettingsError(
                f"{file}: {name} has the shape {found.get(name)}, these settings want {wanted.get(name)}: give the "
                "backbone, blocks and prototypes that it was trained with, or another file"
            )
        self.load_state_dict({name: trained[theirs] for name, theirs in names.items()})

    def draw(self) -> None:
        """Draw the initial weights by torch's generator, as in the authors' scripts."""
        nn.init.normal_(self.prototypes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
                nn.init.zeros_(module.bias)


def authors_name(name: str) -> str:
    """Return the authors' name of a parameter of `Reconstruction`."""
    part, dot, rest = name.partition(".")
    return f"{_PARTS[part]}{dot}{rest}"


def mean_of(tokens: Sequence[Tensor]) -> Tensor:
    """Average the tokens of several layers, (n, t, d) each."""
    return torch.stack(list(tokens)).mean(dim=0)


def distances(taught: Tensor, made: Tensor) -> Tensor:
    """Compute 1 - cosine at each token: (n, t, d) twice -> (n, t)."""
    return 1 - F.cosine_similarity(taught, made, dim=-1)
