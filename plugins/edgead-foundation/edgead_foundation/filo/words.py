"""Words of FiLo: possible defects of a product and their places, after learnt tokens that depend on the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.files.strict_yaml import load_yaml
from edgead_foundation.clip.clip_text import TextTower

GOOD = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS = ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")
DETAILED = "abnormal {} with {detail}"
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
"""Places, row by row; each is a third of the image's height and width."""

INITIAL_STD = 0.02
_SHRINKS = 16
_HIDDEN = -1e4
_MAX_DETAILS = 50


class Sentences(nn.Module):
    """Tokenised sentences whose first tokens are learnt.

    `context`: number of learnt tokens in each.
    `embedded` (Tensor of shape (s, t, d)): embedded tokens up to the longest sentence's end, with zeros for learnt
        tokens; later tokens are not needed, as the text tower is causal.
    `ends` (Tensor of shape (s,), int64): index of each sentence's last token.
    """

    embedded: Tensor
    ends: Tensor

    def __init__(self, text: TextTower, sentences: Sequence[str], context: int):
        super().__init__()
        tokens = text.tokenize([" ".join(["X"] * context + [sentence]) for sentence in sentences])
        ends = tokens.argmax(dim=-1)
        embedded = text.embed(tokens[:, : int(ends.max()) + 1]).clone()
        embedded[:, 1 : 1 + context] = 0
        self.register_buffer("embedded", embedded)
        self.register_buffer("ends", ends)

    def with_context(self, context: Tensor) -> Tensor:
        """Insert learnt tokens of each image (n, c, d), giving all tokens (n, s, t, d)."""
        after = self.embedded.shape[1] - 1 - context.shape[1]
        return self.embedded + F.pad(context, (0, 0, 1, after))[:, None]


class ShiftedContext(nn.Module):
    """Learnt tokens, to which a small network adds a vector that depends on the image (CoCoOp, Zhou et al. 2022)."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.tokens = nn.Parameter(INITIAL_STD * torch.randn(count, width))
        self.first = nn.Linear(width, width // _SHRINKS)
        self.second = nn.Linear(width // _SHRINKS, width)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of images, (n, d) -> tokens (n, c, d)."""
        return self.tokens + self.second(F.relu(self.first(images)))[:, None]


class FiloWords(nn.Module):
    """Encoder of texts on good and anomalous parts, with learnt tokens that depend on the image.

    `text`: text tower; its token embedding is not kept.
    `context`: number of learnt tokens in a sentence.
    """

    positions: Tensor
    projection: Tensor
    mask: Tensor

    def __init__(self, text: TextTower, context: int):
        super().__init__()
        network = text.network
        self.blocks, self.norm = network.transformer.resblocks, network.ln_final
        for name, values in {"positions": network.positional_embedding, "projection": network.text_projection}.items():
            self.register_buffer(name, values.detach())
        # Half floats cannot represent the mask's lowest number, and do not need it.
        self.register_buffer("mask", network.attn_mask.clamp(min=_HIDDEN), persistent=False)
        self.good = ShiftedContext(network.width, context)
        self.anomalous = ShiftedContext(network.width, context)

    def forward(self, images: Tensor, good: Sentences, anomalous: Sentences, places: int) -> tuple[Tensor, Tensor]:
        """Embeddings of images (n, d) -> the good text of length 1 (n, d), and the anomalous text of each place.

        The anomalous text, (n, places, d), is the mean of a place's sentences of length 1; places follow in turn.
        """
        bad = self._encode(self.anomalous(images), anomalous)
        return (
            F.normalize(self._encode(self.good(images), good).mean(dim=1), dim=-1),
            bad.unflatten(1, (-1, places)).mean(dim=1),
        )

    def _encode(self, context: Tensor, sentences: Sentences) -> Tensor:
        """Learnt tokens (n, c, d) -> sentences of length 1, (n, s, d)."""
        tokens = sentences.with_context(context)
        length = tokens.shape[2]
        x = (tokens + self.positions[:length]).flatten(0, 1)
        for block in self.blocks:
            x = block(x, attn_mask=self.mask[:length, :length])
        x = x.unflatten(0, (-1, len(sentences.ends)))
        last = x[:, torch.arange(len(sentences.ends), device=x.device), sentences.ends]
        return F.normalize(self.norm(last) @ self.projection, dim=-1)


def good_sentences(part: str) -> list[str]:
    """Make the sentences for a good part."""
    return [f"{state.replace('{}', part)}." for state in GOOD]


def anomalous_sentences(part: str, details: Sequence[str], places: Sequence[str]) -> list[str]:
    """Make the sentences for an anomalous part: for each state, one sentence for each place."""
    states = [*(DETAILED.replace("{detail}", detail) for detail in details), *ANOMALOUS]
    return [f"{state.replace('{}', part)} at {place}." for state in states for place in places]


def read_descriptions(file: Path) -> dict[str, tuple[str, ...]]:
    """Read possible defects by part from YAML, such as `metal nut: [bent, "scratches on the thread"]`.

    Raises SettingsError: the file cannot be read, or has other content; the message has the line.
    """
    yaml = load_yaml(file)
    if not isinstance(yaml.content, dict) or not yaml.content:
        raise SettingsError(f"{file} has no parts: give lines such as `metal nut: [bent, scratched]`")
    for part, details in yaml.content.items():
        fits = isinstance(details, list) and all(isinstance(each, str) and each.strip() for each in details)
        if not isinstance(part, str) or not fits or not 1 <= len(details) <= _MAX_DETAILS:
            raise SettingsError(
                f"{yaml.where([part])}: {part!r} has {details!r}: give a list of 1 to {_MAX_DETAILS} texts, such as "
                "[bent, scratched]"
            )
    return {part: tuple(details) for part, details in yaml.content.items()}
