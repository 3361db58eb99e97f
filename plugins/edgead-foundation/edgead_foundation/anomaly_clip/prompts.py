"""Learnt prompts of AnomalyCLIP: learnt tokens before "object." and "damaged object."."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.backbones.state_dict import load_named
from edgead_foundation.clip.clip_text import TextTower

ENDS = ("object.", "damaged object.")
INITIAL_STD = 0.02


class Prompts(nn.Module):
    """Prompts for good and anomalous objects.

    `width`: channels of a token of the text tower.
    `context`: number of learnt tokens before "object." and "damaged object.".
    `deep_context`, `deep_blocks`: number of context tokens, from the first, that other learnt tokens replace inside the
        tower, and number of blocks, from the second, before which that happens.
    """

    def __init__(self, width: int, context: int, deep_context: int, deep_blocks: int):
        super().__init__()
        self.context = nn.Parameter(INITIAL_STD * torch.randn(2, context, width))
        self.deep = nn.ParameterList(INITIAL_STD * torch.randn(deep_context, width) for _ in range(deep_blocks))

    def forward(self, text: TextTower) -> Tensor:
        """Encode the prompts as embeddings of length 1, (2, d)."""
        return self._encode(text, self.context)

    def of_images(self, text: TextTower, images: Tensor) -> Tensor:
        """Encode the prompts with an image's embedding after the context, for Crane's training: (n, d) -> (n, 2, d)."""
        contexts = torch.cat(
            [self.context.repeat(len(images), 1, 1), images.repeat_interleave(2, dim=0)[:, None]], dim=1
        )
        return self._encode(text, contexts).unflatten(0, (len(images), 2))

    def _encode(self, text: TextTower, contexts: Tensor) -> Tensor:
        """Contexts of good and anomalous prompts in turn, (2 n, t, width) -> (2 n, d)."""
        count = contexts.shape[1]
        ends = text.tokenize([" ".join(["X"] * count + [end]) for end in ENDS]).to(contexts.device)
        tokens = ends.repeat(len(contexts) // 2, 1)
        embedded = text.embed(tokens)
        prompts = torch.cat([embedded[:, :1], contexts, embedded[:, 1 + count :]], dim=1)
        # The authors' code always converts the deep tokens to half floats.
        deep = [each.half().to(prompts.dtype) for each in self.deep]
        return F.normalize(text.encode_embedded(prompts, tokens, deep), dim=-1)


def read_prompts(file: Path, width: int) -> Prompts:
    """Read prompts that the authors' code has learnt: `epoch_15.pth`, or its `prompt_learner` as safetensors.

    Nothing is unpickled but tensors.

    Raises SettingsError: the file is no such checkpoint, or was learnt with another text tower.
    """
    state = load_named(file, "prompt_learner", "learnt prompts", "epoch_15.pth")
    names = sorted((name for name in state if name.startswith("compound_prompts_text.")), key=_number)
    try:
        good, anomalous = (state[f"ctx_{kind}"].float() for kind in ("pos", "neg"))
        context = torch.cat([good.flatten(0, 1), anomalous.flatten(0, 1)])
        deep = [state[name].float() for name in names]
        prompts = Prompts(width, context.shape[1], len(deep[0]) if deep else 0, len(deep))
        prompts.load_state_dict({"context": context, **{f"deep.{number}": each for number, each in enumerate(deep)}})
    except (KeyError, IndexError, RuntimeError) as error:
        shown = ", ".join(sorted(map(str, state))[:4]) or "none"
        raise SettingsError(
            f"{file} holds no prompts of AnomalyCLIP for a text tower of {width} channels "
            f"({' '.join(str(error).split())[:200]}); its entries begin with {shown}. Give epoch_15.pth of the "
            "authors' checkpoints, and the CLIP that they were learnt with"
        ) from error
    return prompts


def _number(name: str) -> int:
    last = name.rpartition(".")[2]
    return int(last) if last.isdecimal() else -1
